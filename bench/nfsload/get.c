/* Reads the share into a local folder that is new or empty, with everything that the share tells of each file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nfsload.h"

static bool succeeded(const char *path, int result)
{
        if (result != 0)
                complain(path, "%s", strerror(errno));
        return result == 0;
}

/* Owner first: changing it takes set-id bits away. Times last: everything else touches them. */
static void set_attributes(const char *path, const fattr3 *remote)
{
        if (options.owner && !succeeded(path, lchown(path, remote->uid, remote->gid)))
                return;
        if (remote->type != NF3LNK && !succeeded(path, chmod(path, remote->mode & 07777)))
                return;
        struct timespec times[2] = {
                { remote->atime.seconds, remote->atime.nseconds },
                { remote->mtime.seconds, remote->mtime.nseconds },
        };
        succeeded(path, utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

/* ---- contents */

static bool is_zero(const char *bytes, size_t length)
{
        return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static int store(void *context, uint64_t offset, const char *bytes, size_t length)
{
        totals.bytes += length;
        if (is_zero(bytes, length))
                return 0; /* stays a hole: the file was made with its full length */
        while (length > 0) {
                ssize_t written = pwrite(*(int *)context, bytes, length, (off_t)offset);
                if (written < 0)
                        return errno;
                bytes += written;
                offset += (uint64_t)written;
                length -= (size_t)written;
        }
        return 0;
}

static bool fetch(const struct child *child, const char *path)
{
        const fattr3 *remote = &child->remote.attributes;
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, (off_t)remote->size) != 0) {
                complain(path, "%s", strerror(errno));
                if (file >= 0)
                        close(file);
                return false;
        }
        struct reader reader = { .sink = store, .context = &file };
        for (uint64_t offset = 0; offset < remote->size && reader.status == NFS3_OK && !reader.sink_error;) {
                uint64_t left = remote->size - offset;
                size_t length = left < share_read_max ? (size_t)left : share_read_max;
                share_read(&reader, &child->remote.handle, offset, length);
                offset += length;
        }
        int status = share_await(&reader);
        if (close(file) != 0 && !reader.sink_error)
                reader.sink_error = errno;
        totals.files++;
        if (status != NFS3_OK)
                complain(path, "read: %s", nfsstat3_to_str(status));
        else if (reader.sink_error)
                complain(path, "%s", strerror(reader.sink_error));
        return status == NFS3_OK && !reader.sink_error;
}

/* ---- one name */

static bool make_symlink(const struct child *child, const char *path)
{
        char *target = NULL;
        int status = share_readlink(&child->remote.handle, &target);
        if (status != NFS3_OK) {
                complain(path, "readlink: %s", nfsstat3_to_str(status));
                return false;
        }
        totals.symlinks++;
        bool made = succeeded(path, symlink(target, path));
        free(target);
        return made;
}

static bool make_special(const char *path, const fattr3 *remote)
{
        static const mode_t kinds[] = {
                [NF3BLK] = S_IFBLK, [NF3CHR] = S_IFCHR, [NF3SOCK] = S_IFSOCK, [NF3FIFO] = S_IFIFO,
        };
        if (remote->type > NF3FIFO || kinds[remote->type] == 0) {
                complain(path, "a type of file that nobody knows: %d", (int)remote->type);
                return false;
        }
        totals.specials++;
        dev_t device = makedev(remote->rdev.specdata1, remote->rdev.specdata2);
        return succeeded(path, mknod(path, kinds[remote->type] | 0600, device));
}

static bool make(const struct child *child, const char *path)
{
        const fattr3 *remote = &child->remote.attributes;
        bool made = remote->type == NF3REG   ? fetch(child, path)
                    : remote->type == NF3LNK ? make_symlink(child, path)
                                             : make_special(path, remote);
        if (made)
                set_attributes(path, remote);
        return made;
}

static void get_child(struct child *child)
{
        char path[PATH_MAX];
        local_path(child->folder, child->name, path);
        if (child->remote.attributes.nlink <= 1) {
                make(child, path);
                return;
        }
        bool first;
        struct link_group *group = link_group(0, child->remote.attributes.fileid, &first);
        if (first) {
                group->path = strdup(path);
                link_settle(group, make(child, path));
        } else if (group->state == LINK_READY) {
                totals.links++;
                succeeded(path, link(group->path, path));
        }
}

static bool get_enter(struct folder *folder)
{
        char path[PATH_MAX];
        local_path(folder, NULL, path);
        totals.folders++;
        if (mkdir(path, 0700) == 0 || (errno == EEXIST && !folder->parent))
                return true;
        complain(path, "%s", strerror(errno));
        return false;
}

static void get_leave(struct folder *folder)
{
        char path[PATH_MAX];
        local_path(folder, NULL, path);
        set_attributes(path, &folder->remote);
}

const struct visitor get_visitor = { false, true, get_enter, get_child, get_leave };
