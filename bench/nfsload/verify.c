/* Compares the share with the local tree, everything that NFS carries, without writing anything anywhere. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nfsload.h"

static void compare_attributes(const char *path, const struct stat *local, const fattr3 *remote)
{
        if (!S_ISLNK(local->st_mode) && (local->st_mode & 07777) != (remote->mode & 07777))
                differ(path, "mode %04o, not %04o", remote->mode & 07777, local->st_mode & 07777);
        if (options.owner && (local->st_uid != remote->uid || local->st_gid != remote->gid))
                differ(path, "owner %u:%u, not %u:%u", remote->uid, remote->gid, local->st_uid, local->st_gid);
        if (!same_time(&local->st_mtim, &remote->mtime))
                differ(path, "modified %u.%09u, not %lld.%09ld", remote->mtime.seconds, remote->mtime.nseconds,
                       (long long)local->st_mtim.tv_sec, local->st_mtim.tv_nsec);
}

struct comparison {
        int file;
        const char *path;
        bool told;
};

static int compare_bytes(void *context, uint64_t offset, const char *bytes, size_t length)
{
        static char *buffer; /* used to its end before another answer is looked at */
        struct comparison *comparison = context;
        if (!buffer)
                buffer = resize(NULL, share_read_max);
        totals.bytes += length;
        ssize_t got = pread(comparison->file, buffer, length, (off_t)offset);
        if (got < 0)
                return errno;
        if (((size_t)got != length || memcmp(buffer, bytes, length) != 0) && !comparison->told) {
                size_t at = 0;
                while (at < (size_t)got && at < length && buffer[at] == bytes[at])
                        at++;
                differ(comparison->path, "content differs at byte %llu", (unsigned long long)(offset + at));
                comparison->told = true;
        }
        return 0;
}

static void compare_content(const struct child *child, const char *path)
{
        uint64_t size = child->remote.attributes.size;
        if ((uint64_t)child->local.st_size != size) {
                differ(path, "size %llu, not %lld", (unsigned long long)size, (long long)child->local.st_size);
                return;
        }
        struct comparison comparison = { .path = path, .file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) };
        if (comparison.file < 0) {
                complain(path, "%s", strerror(errno));
                return;
        }
        struct reader reader = { .sink = compare_bytes, .context = &comparison };
        for (uint64_t offset = 0; offset < size && reader.status == NFS3_OK && !comparison.told;) {
                size_t length = size - offset < share_read_max ? (size_t)(size - offset) : share_read_max;
                share_read(&reader, &child->remote.handle, offset, length);
                offset += length;
        }
        int status = share_await(&reader);
        close(comparison.file);
        if (status != NFS3_OK)
                complain(path, "read: %s", nfsstat3_to_str(status));
        if (reader.sink_error)
                complain(path, "%s", strerror(reader.sink_error));
}

static void compare_target(const struct child *child, const char *path)
{
        char local[PATH_MAX], *remote = NULL;
        ssize_t length = readlink(path, local, sizeof local - 1);
        int status = share_readlink(&child->remote.handle, &remote);
        if (length < 0 || status != NFS3_OK) {
                complain(path, "readlink: %s", length < 0 ? strerror(errno) : nfsstat3_to_str(status));
        } else {
                local[length] = 0;
                if (strcmp(local, remote) != 0)
                        differ(path, "points to %s, not %s", remote, local);
        }
        free(remote);
}

/* Names of one local file must be names of one remote file, and of no other. */
static bool compare_links(const struct child *child, const char *path)
{
        const fattr3 *remote = &child->remote.attributes;
        if (child->local.st_nlink == 1 && remote->nlink == 1)
                return true;
        bool first;
        struct link_group *group = link_group(child->local.st_dev, child->local.st_ino, &first);
        if (first) {
                group->fileid = remote->fileid;
                link_settle(group, true);
        }
        bool claimed = link_claim(remote->fileid, child->local.st_dev, child->local.st_ino);
        if (group->fileid != remote->fileid || !claimed)
                differ(path, "is a name of another file than here");
        if (!first)
                totals.links++;
        return first;
}

static void verify_child(struct child *child)
{
        char path[PATH_MAX];
        local_path(child->folder, child->name, path);
        if (!child->has_local || !child->has_remote) {
                differ(path, child->has_local ? "missing on the share" : "only on the share");
                return;
        }
        const struct stat *local = &child->local;
        const fattr3 *remote = &child->remote.attributes;
        if (type_of(local->st_mode) != remote->type) {
                differ(path, "type %d, not %d", (int)remote->type, (int)type_of(local->st_mode));
                return;
        }
        compare_attributes(path, local, remote);
        bool look_inside = compare_links(child, path);
        if (S_ISREG(local->st_mode)) {
                totals.files++;
                if (look_inside)
                        compare_content(child, path);
        } else if (S_ISLNK(local->st_mode)) {
                totals.symlinks++;
                compare_target(child, path);
        } else {
                totals.specials++;
                if ((S_ISCHR(local->st_mode) || S_ISBLK(local->st_mode)) &&
                    (major(local->st_rdev) != remote->rdev.specdata1 || minor(local->st_rdev) != remote->rdev.specdata2))
                        differ(path, "is another device");
        }
}

static bool verify_enter(struct folder *folder)
{
        char path[PATH_MAX];
        local_path(folder, NULL, path);
        totals.folders++;
        if (!folder->has_remote)
                differ(path, "missing on the share");
        else if (!folder->has_local)
                differ(path, "only on the share");
        else
                compare_attributes(path, &folder->local, &folder->remote);
        return folder->has_local && folder->has_remote;
}

static void verify_leave(struct folder *folder)
{
        (void)folder;
}

const struct visitor verify_visitor = { true, true, verify_enter, verify_child, verify_leave };
