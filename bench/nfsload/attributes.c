/* Attributes of both worlds, compared and carried over. */
#include <sys/sysmacros.h>

#include "nfsload.h"

ftype3 type_of(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFDIR: return NF3DIR;
        case S_IFLNK: return NF3LNK;
        case S_IFBLK: return NF3BLK;
        case S_IFCHR: return NF3CHR;
        case S_IFIFO: return NF3FIFO;
        case S_IFSOCK: return NF3SOCK;
        default: return NF3REG;
        }
}

/* NFSv3 counts seconds from 1970 in 32 bits without a sign: what lies outside is carried as the nearest it can. */
static nfstime3 wire_time(const struct timespec *time)
{
        if (time->tv_sec < 0)
                return (nfstime3){ 0, 0 };
        if (time->tv_sec > UINT32_MAX)
                return (nfstime3){ UINT32_MAX, 999999999 };
        return (nfstime3){ (uint32_t)time->tv_sec, (uint32_t)time->tv_nsec };
}

bool same_time(const struct timespec *local, const nfstime3 *remote)
{
        nfstime3 time = wire_time(local);
        return time.seconds == remote->seconds && time.nseconds == remote->nseconds;
}

sattr3 attributes_of(const struct stat *local)
{
        sattr3 attributes = { 0 };
        if (!S_ISLNK(local->st_mode))
                attributes.mode = (set_mode3){ .set_it = 1, .set_mode3_u.mode = local->st_mode & 07777 };
        if (options.owner) {
                attributes.uid = (set_uid3){ .set_it = 1, .set_uid3_u.uid = local->st_uid };
                attributes.gid = (set_gid3){ .set_it = 1, .set_gid3_u.gid = local->st_gid };
        }
        attributes.atime = (set_atime){ .set_it = SET_TO_CLIENT_TIME, .set_atime_u.atime = wire_time(&local->st_atim) };
        attributes.mtime = (set_mtime){ .set_it = SET_TO_CLIENT_TIME, .set_mtime_u.mtime = wire_time(&local->st_mtim) };
        return attributes;
}

bool attributes_differ(const struct stat *local, const fattr3 *remote, bool with_time)
{
        if (!S_ISLNK(local->st_mode) && (local->st_mode & 07777) != (remote->mode & 07777))
                return true;
        if (options.owner && (local->st_uid != remote->uid || local->st_gid != remote->gid))
                return true;
        return with_time && !same_time(&local->st_mtim, &remote->mtime);
}
