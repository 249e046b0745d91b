/* The calls that concern names and attributes. */
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "nfsload.h"

static diropargs3 where(const struct handle *dir, const char *name)
{
        return (diropargs3){ wire(dir), (char *)name };
}

static void keep_handle(struct handle *handle, const nfs_fh3 *fh)
{
        handle->length = fh->data.data_len <= sizeof handle->bytes ? fh->data.data_len : 0;
        memcpy(handle->bytes, fh->data.data_val, handle->length);
}

static void keep_attributes(struct entry *entry, const post_op_attr *attributes)
{
        entry->has_attributes = attributes->attributes_follow;
        if (entry->has_attributes)
                entry->attributes = attributes->post_op_attr_u.attributes;
}

static void take_getattr(void *reply, void *out)
{
        *(fattr3 *)out = ((GETATTR3res *)reply)->GETATTR3res_u.resok.obj_attributes;
}

int share_getattr(const struct handle *file, fattr3 *attributes)
{
        GETATTR3args args = { wire(file) };
        return call_perform(GETATTR, &args, take_getattr, attributes);
}

static void take_lookup(void *reply, void *out)
{
        LOOKUP3resok *ok = &((LOOKUP3res *)reply)->LOOKUP3res_u.resok;
        keep_handle(&((struct entry *)out)->handle, &ok->object);
        keep_attributes(out, &ok->obj_attributes);
}

int share_lookup(const struct handle *dir, const char *name, struct entry *found)
{
        LOOKUP3args args = { where(dir, name) };
        int status = call_perform(LOOKUP, &args, take_lookup, found);
        if (status == NFS3_OK && !found->has_attributes) {
                status = share_getattr(&found->handle, &found->attributes);
                found->has_attributes = status == NFS3_OK;
        }
        return status;
}

/* What CREATE, MKDIR, SYMLINK and MKNOD answer is laid out alike; RFC 1813 lets the server leave the handle out. */
static void take_created(struct entry *entry, const post_op_fh3 *fh, const post_op_attr *attributes)
{
        entry->handle.length = 0;
        if (fh->handle_follows)
                keep_handle(&entry->handle, &fh->post_op_fh3_u.handle);
        keep_attributes(entry, attributes);
}

static void take_mkdir(void *reply, void *out)
{
        MKDIR3resok *ok = &((MKDIR3res *)reply)->MKDIR3res_u.resok;
        take_created(out, &ok->obj, &ok->obj_attributes);
}

static void take_create(void *reply, void *out)
{
        CREATE3resok *ok = &((CREATE3res *)reply)->CREATE3res_u.resok;
        take_created(out, &ok->obj, &ok->obj_attributes);
}

static void take_symlink(void *reply, void *out)
{
        SYMLINK3resok *ok = &((SYMLINK3res *)reply)->SYMLINK3res_u.resok;
        take_created(out, &ok->obj, &ok->obj_attributes);
}

static void take_mknod(void *reply, void *out)
{
        MKNOD3resok *ok = &((MKNOD3res *)reply)->MKNOD3res_u.resok;
        take_created(out, &ok->obj, &ok->obj_attributes);
}

static int complete(int status, const struct handle *dir, const char *name, struct entry *made)
{
        return status == NFS3_OK && made->handle.length == 0 ? share_lookup(dir, name, made) : status;
}

static sattr3 with_mode(uint32_t mode)
{
        return (sattr3){ .mode = { .set_it = 1, .set_mode3_u.mode = mode } };
}

int share_mkdir(const struct handle *dir, const char *name, uint32_t mode, struct entry *made)
{
        MKDIR3args args = { where(dir, name), with_mode(mode) };
        return complete(call_perform(MKDIR, &args, take_mkdir, made), dir, name, made);
}

int share_create(const struct handle *dir, const char *name, uint32_t mode, struct entry *made)
{
        sattr3 attributes = with_mode(mode);
        attributes.size = (set_size3){ .set_it = 1, .set_size3_u.size = 0 };
        CREATE3args args = { where(dir, name), { .mode = UNCHECKED, .createhow3_u.obj_attributes = attributes } };
        return complete(call_perform(CREATE, &args, take_create, made), dir, name, made);
}

int share_symlink(const struct handle *dir, const char *name, const char *target, struct entry *made)
{
        SYMLINK3args args = { where(dir, name), { with_mode(0777), (char *)target } };
        return complete(call_perform(SYMLINK, &args, take_symlink, made), dir, name, made);
}

int share_mknod(const struct handle *dir, const char *name, ftype3 type, uint32_t mode, specdata3 device,
                struct entry *made)
{
        MKNOD3args args = { .where = where(dir, name), .what = { .type = type } };
        if (type == NF3CHR || type == NF3BLK)
                args.what.mknoddata3_u.chr_device = (devicedata3){ with_mode(mode), device };
        else
                args.what.mknoddata3_u.pipe_attributes = with_mode(mode);
        return complete(call_perform(MKNOD, &args, take_mknod, made), dir, name, made);
}

int share_link(const struct handle *file, const struct handle *dir, const char *name)
{
        LINK3args args = { wire(file), where(dir, name) };
        return call_perform(LINK, &args, NULL, NULL);
}

int share_remove(const struct handle *dir, const char *name)
{
        REMOVE3args args = { where(dir, name) };
        return call_perform(REMOVE, &args, NULL, NULL);
}

int share_rmdir(const struct handle *dir, const char *name)
{
        RMDIR3args args = { where(dir, name) };
        return call_perform(RMDIR, &args, NULL, NULL);
}

int share_setattr(const struct handle *file, const sattr3 *attributes)
{
        SETATTR3args args = { wire(file), *attributes, { .check = 0 } };
        return call_perform(SETATTR, &args, NULL, NULL);
}

static void take_readlink(void *reply, void *out)
{
        *(char **)out = strdup(((READLINK3res *)reply)->READLINK3res_u.resok.data);
}

int share_readlink(const struct handle *link, char **target)
{
        READLINK3args args = { wire(link) };
        return call_perform(READLINK, &args, take_readlink, target);
}


struct page {
        struct listing *listing;
        cookie3 cookie;
        cookieverf3 verifier;
        bool end;
};

static void take_page(void *reply, void *out)
{
        struct page *page = out;
        READDIRPLUS3resok *ok = &((READDIRPLUS3res *)reply)->READDIRPLUS3res_u.resok;
        memcpy(page->verifier, ok->cookieverf, sizeof page->verifier);
        struct listing *listing = page->listing;
        for (entryplus3 *e = ok->reply.entries; e; e = e->nextentry) {
                page->cookie = e->cookie;
                if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
                        continue;
                if ((listing->count & (listing->count - 1)) == 0)
                        listing->entries = resize(listing->entries, (listing->count ? 2 * listing->count : 1) * sizeof(struct entry));
                struct entry *entry = &listing->entries[listing->count++];
                memset(entry, 0, sizeof *entry);
                entry->name = strdup(e->name);
                keep_attributes(entry, &e->name_attributes);
                if (e->name_handle.handle_follows)
                        keep_handle(&entry->handle, &e->name_handle.post_op_fh3_u.handle);
        }
        page->end = ok->reply.eof || !ok->reply.entries;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

int share_list(const struct handle *dir, struct listing *listing)
{
        *listing = (struct listing){ 0 };
        struct page page = { .listing = listing };
        while (!page.end) {
                READDIRPLUS3args args = { .dir = wire(dir), .cookie = page.cookie, .dircount = 32768, .maxcount = 131072 };
                memcpy(args.cookieverf, page.verifier, sizeof args.cookieverf);
                int status = call_perform(READDIRPLUS, &args, take_page, &page);
                if (status != NFS3_OK)
                        return status;
        }
        qsort(listing->entries, listing->count, sizeof(struct entry), by_name);
        for (size_t i = 0; i < listing->count; i++) {
                struct entry *entry = &listing->entries[i];
                if (entry->has_attributes && entry->handle.length)
                        continue;
                int status = share_lookup(dir, entry->name, entry);
                if (status != NFS3_OK && status != NFS3ERR_NOENT)
                        return status;
        }
        return NFS3_OK;
}

void share_free_listing(struct listing *listing)
{
        for (size_t i = 0; i < listing->count; i++)
                free(listing->entries[i].name);
        free(listing->entries);
        *listing = (struct listing){ 0 };
}
