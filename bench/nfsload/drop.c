/* Reads from the share what the local tree names, by looking every name up, and throws the bytes away: what a restore
 * asks of the server without what it asks of the client's disk. */
#include <limits.h>
#include <string.h>

#include "nfsload.h"

static int discard(void *context, uint64_t offset, const char *bytes, size_t length)
{
        (void)context, (void)offset, (void)bytes;
        totals.bytes += length;
        return 0;
}

static void drop_child(struct child *child)
{
        char path[PATH_MAX];
        share_path(child->folder, child->name, path);
        struct entry found = { 0 };
        int status = share_lookup(&child->folder->handle, child->name, &found);
        if (status == NFS3_OK && found.attributes.type == NF3REG) {
                struct reader reader = { .sink = discard };
                for (uint64_t offset = 0; offset < found.attributes.size && reader.status == NFS3_OK;) {
                        uint64_t left = found.attributes.size - offset;
                        size_t length = left < share_read_max ? (size_t)left : share_read_max;
                        share_read(&reader, &found.handle, offset, length);
                        offset += length;
                }
                status = share_await(&reader);
        }
        totals.files++;
        if (status != NFS3_OK)
                complain(path, "%s", nfsstat3_to_str(status));
}

static bool drop_enter(struct folder *folder)
{
        totals.folders++;
        if (!folder->parent)
                return true;
        const char *slash = strrchr(folder->path, '/');
        struct entry found = { 0 };
        int status = share_lookup(&folder->parent->handle, slash ? slash + 1 : folder->path, &found);
        if (status != NFS3_OK)
                complain(folder->path, "%s", nfsstat3_to_str(status));
        folder->handle = found.handle;
        return status == NFS3_OK;
}

static void drop_leave(struct folder *folder)
{
        (void)folder;
}

const struct visitor drop_visitor = { true, false, drop_enter, drop_child, drop_leave };
