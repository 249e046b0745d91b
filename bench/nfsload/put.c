/* Makes the share equal to the local tree. `put` adds and overwrites; `sync` also removes what the local tree has not.
 *
 * A file whose size and modification time are equal on both sides is taken as unchanged, as rsync does. A changed file
 * is written in place, whole: other names of it stay names of it. Small files are written stable in one call, larger
 * ones unstable with one COMMIT, as the kernel's client does. Holes are skipped, not sent. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nfsload.h"

/* How often a file is sent anew because the server lost unstable bytes, before we call it broken. */
#define ATTEMPTS_MAX 10

static void report(const struct child *child, const char *what, int status)
{
        char path[PATH_MAX];
        share_path(child->folder, child->name, path);
        complain(path, "%s: %s", what, nfsstat3_to_str(status));
}

static bool succeeded(const struct child *child, const char *what, int status)
{
        if (status != NFS3_OK)
                report(child, what, status);
        return status == NFS3_OK;
}

/* Removes a file, or a folder with all below it. */
static int remove_tree(const struct handle *dir, const struct entry *entry)
{
        if (entry->attributes.type != NF3DIR) {
                totals.removed++;
                return share_remove(dir, entry->name);
        }
        struct listing below;
        int status = share_list(&entry->handle, &below);
        for (size_t i = 0; status == NFS3_OK && i < below.count; i++)
                status = remove_tree(&entry->handle, &below.entries[i]);
        share_free_listing(&below);
        totals.removed++;
        return status == NFS3_OK ? share_rmdir(dir, entry->name) : status;
}

/* ---- contents */

/* The next stretch of data of at most `max` bytes at or after *offset; 0 at the end of the file. */
static size_t next_data(int file, off_t size, off_t *offset, off_t *data_end, size_t max)
{
        if (*offset >= size)
                return 0;
        if (*offset >= *data_end) {
                off_t data = lseek(file, *offset, SEEK_DATA);
                if (data < 0 && errno == ENXIO)
                        return 0;
                /* Where the file system does not know of holes, all is data. */
                off_t hole = data < 0 ? -1 : lseek(file, data, SEEK_HOLE);
                *offset = data < 0 ? *offset : data;
                *data_end = hole < 0 || hole > size ? size : hole;
                if (*offset >= size)
                        return 0;
        }
        off_t left = *data_end - *offset;
        return (size_t)left < max ? (size_t)left : max;
}

/* Sends the content once. Every byte is handed to libnfs, which copies it, before another coroutine runs: one buffer
 * serves all. */
static int send_once(int file, const struct stat *local, const struct handle *handle, bool *again, int *error)
{
        static char *buffer;
        if (!buffer)
                buffer = resize(NULL, share_write_max);
        struct writer writer = { 0 };
        bool stable = (size_t)local->st_size <= share_write_max;
        off_t offset = 0, data_end = 0;
        for (size_t length; writer.status == NFS3_OK; offset += (off_t)length) {
                length = next_data(file, local->st_size, &offset, &data_end, share_write_max);
                if (length == 0)
                        break;
                /* The buffer may be filled only once there is room to send it. */
                share_wait_for_room();
                ssize_t got = pread(file, buffer, length, offset);
                if (got <= 0) {
                        *error = got < 0 ? errno : 0; /* it shrank meanwhile: what there was is sent */
                        break;
                }
                length = (size_t)got;
                totals.bytes += length;
                share_write(&writer, handle, (uint64_t)offset, buffer, length, stable);
        }
        return share_finish(&writer, handle, stable, again);
}

static bool send_content(const struct child *child, const struct handle *handle)
{
        char path[PATH_MAX];
        local_path(child->folder, child->name, path);
        int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (file < 0) {
                complain(path, "%s", strerror(errno));
                return false;
        }
        int status = NFS3_OK, error = 0;
        bool again = true;
        for (int attempt = 0; again && status == NFS3_OK && attempt < ATTEMPTS_MAX; attempt++)
                status = send_once(file, &child->local, handle, &again, &error);
        close(file);
        if (error)
                complain(path, "%s", strerror(error));
        if (again && status == NFS3_OK)
                complain(path, "the server keeps losing what was written");
        return succeeded(child, "write", status) && !again && !error;
}

/* ---- one file */

/* Sets what the creation could not. A file that ends in a hole, or is one, also gets its length. */
static bool set_attributes(const struct child *child, const struct handle *handle)
{
        sattr3 attributes = attributes_of(&child->local);
        if (S_ISREG(child->local.st_mode))
                attributes.size = (set_size3){ .set_it = 1, .set_size3_u.size = (uint64_t)child->local.st_size };
        if (!succeeded(child, "set attributes", share_setattr(handle, &attributes)))
                return false;
        /* A change of owner may take set-id bits away, whatever mode the same call brought. */
        if (!options.owner || !attributes.mode.set_it || !(child->local.st_mode & (S_ISUID | S_ISGID)))
                return true;
        sattr3 mode = { .mode = attributes.mode };
        return succeeded(child, "set mode", share_setattr(handle, &mode));
}

static bool make_file(struct child *child, struct entry *made)
{
        if (!succeeded(child, "create", share_create(&child->folder->handle, child->name, 0600, made)))
                return false;
        totals.files++;
        return send_content(child, &made->handle) && set_attributes(child, &made->handle);
}

static bool make_symlink(struct child *child, struct entry *made)
{
        char path[PATH_MAX], target[PATH_MAX];
        local_path(child->folder, child->name, path);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0) {
                complain(path, "%s", strerror(errno));
                return false;
        }
        target[length] = 0;
        totals.symlinks++;
        int status = share_symlink(&child->folder->handle, child->name, target, made);
        return succeeded(child, "symlink", status) && set_attributes(child, &made->handle);
}

static bool make_special(struct child *child, struct entry *made)
{
        specdata3 device = { major(child->local.st_rdev), minor(child->local.st_rdev) };
        totals.specials++;
        int status = share_mknod(&child->folder->handle, child->name, type_of(child->local.st_mode), 0600, device, made);
        return succeeded(child, "mknod", status) && set_attributes(child, &made->handle);
}

static bool make(struct child *child, struct entry *made)
{
        child->folder->changed = true;
        if (S_ISREG(child->local.st_mode))
                return make_file(child, made);
        return S_ISLNK(child->local.st_mode) ? make_symlink(child, made) : make_special(child, made);
}

static bool same_target(struct child *child)
{
        char path[PATH_MAX], local[PATH_MAX], *remote = NULL;
        local_path(child->folder, child->name, path);
        ssize_t length = readlink(path, local, sizeof local - 1);
        bool same = length >= 0 && share_readlink(&child->remote.handle, &remote) == NFS3_OK;
        if (same) {
                local[length] = 0;
                same = strcmp(local, remote) == 0;
        }
        free(remote);
        return same;
}

/* Brings one name up to date; `made` gets the file that it then names. */
static bool update(struct child *child, struct entry *made)
{
        const struct stat *local = &child->local;
        const fattr3 *remote = &child->remote.attributes;
        if (child->has_remote) {
                bool keep = type_of(local->st_mode) == remote->type;
                /* A name that must not share its file with others, or not with these, gets a file of its own. */
                if (keep && remote->nlink > 1)
                        keep = local->st_nlink > 1 && link_claim(remote->fileid, local->st_dev, local->st_ino);
                if (keep && S_ISLNK(local->st_mode))
                        keep = same_target(child);
                if (keep && (S_ISCHR(local->st_mode) || S_ISBLK(local->st_mode)))
                        keep = major(local->st_rdev) == remote->rdev.specdata1 && minor(local->st_rdev) == remote->rdev.specdata2;
                if (!keep) {
                        child->folder->changed = true;
                        if (!succeeded(child, "remove", remove_tree(&child->folder->handle, &child->remote)))
                                return false;
                        child->has_remote = false;
                }
        }
        if (!child->has_remote)
                return make(child, made);
        *made = child->remote;
        if (S_ISREG(local->st_mode) &&
            (options.every_byte || (uint64_t)local->st_size != remote->size || !same_time(&local->st_mtim, &remote->mtime)))
                return make_file(child, made);
        totals.unchanged++;
        return !attributes_differ(local, remote, true) || set_attributes(child, &made->handle);
}

/* A further name of a file that is there already. */
static void add_name(struct child *child, struct link_group *group)
{
        if (group->state != LINK_READY)
                return; /* the first name's failure was told */
        if (child->has_remote) {
                if (child->remote.attributes.fileid == group->fileid) {
                        totals.unchanged++;
                        return;
                }
                if (!succeeded(child, "remove", remove_tree(&child->folder->handle, &child->remote)))
                        return;
        }
        child->folder->changed = true;
        totals.links++;
        succeeded(child, "link", share_link(&group->handle, &child->folder->handle, child->name));
}

static void put_child(struct child *child)
{
        if (!child->has_local)
                return;
        struct entry made = { 0 };
        if (S_ISDIR(child->local.st_mode)) { /* in the way of a folder lies something else */
                child->folder->changed = true;
                if (succeeded(child, "remove", remove_tree(&child->folder->handle, &child->remote)))
                        walk_into(child);
                return;
        }
        if (child->local.st_nlink == 1) {
                update(child, &made);
                return;
        }
        bool first;
        struct link_group *group = link_group(child->local.st_dev, child->local.st_ino, &first);
        if (!first) {
                add_name(child, group);
                return;
        }
        bool ready = update(child, &made);
        group->handle = made.handle;
        if (ready && !made.has_attributes)
                ready = share_getattr(&made.handle, &made.attributes) == NFS3_OK;
        group->fileid = made.attributes.fileid;
        if (ready)
                link_claim(group->fileid, child->local.st_dev, child->local.st_ino);
        link_settle(group, ready);
}

static void sync_child(struct child *child)
{
        if (child->has_local) {
                put_child(child);
                return;
        }
        child->folder->changed = true;
        succeeded(child, "remove", remove_tree(&child->folder->handle, &child->remote));
}

/* ---- folders */

static bool put_enter(struct folder *folder)
{
        totals.folders++;
        if (folder->has_remote)
                return true;
        const char *slash = strrchr(folder->path, '/');
        struct entry made = { 0 };
        /* Open to us alone until everything below is there. */
        int status = share_mkdir(&folder->parent->handle, slash ? slash + 1 : folder->path, 0700, &made);
        if (status != NFS3_OK) {
                complain(folder->path, "mkdir: %s", nfsstat3_to_str(status));
                return false;
        }
        folder->handle = made.handle;
        folder->parent->changed = folder->changed = true;
        return true;
}

static void put_leave(struct folder *folder)
{
        if (folder->handle.length == 0 || (!folder->changed && !attributes_differ(&folder->local, &folder->remote, true)))
                return;
        sattr3 attributes = attributes_of(&folder->local);
        int status = share_setattr(&folder->handle, &attributes);
        if (status != NFS3_OK)
                complain(*folder->path ? folder->path : "/", "set attributes: %s", nfsstat3_to_str(status));
}

const struct visitor put_visitor = { true, true, put_enter, put_child, put_leave };
const struct visitor sync_visitor = { true, true, put_enter, sync_child, put_leave };
