/* What the parts of the loader share. */
#ifndef NFSLOAD_H
#define NFSLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "share.h"

struct options {
        const char *local; /* the folder on this machine */
        struct share_options share;
        bool owner;        /* carry owners and groups */
        bool every_byte;   /* sync: write unchanged files as well */
        int workers;       /* coroutines: files and folders under way at once */
        bool json, progress;
};

struct totals {
        uint64_t files, folders, symlinks, specials, links, removed, unchanged, bytes, failures, differences;
};

extern struct options options;
extern struct totals totals;

double now(void);                        /* seconds that never run backwards */
void *resize(void *memory, size_t size); /* realloc that ends the program when there is no memory */
void fail(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Counts a failure that concerns one file, and prints the first ones; the run goes on. */
void complain(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
void differ(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- walk.c: two trees side by side, folder by folder, many folders and files at once */

struct folder {
        struct folder *parent;
        char *path;           /* below the root, without a slash at either end; "" is the root */
        struct handle handle; /* its remote side, where there is one */
        struct stat local;    /* its local side, where there is one */
        fattr3 remote;
        bool has_local, has_remote;
        bool changed;         /* something below was added or removed: its time must be set again */
        size_t unfinished;
};

struct child {
        struct folder *folder;
        char *name;
        struct stat local;
        struct entry remote;
        bool has_local, has_remote;
};

struct visitor {
        bool local, remote; /* which sides are listed */
        bool (*enter)(struct folder *folder); /* makes what is missing; false leaves the folder out */
        void (*child)(struct child *child);   /* everything but folders that both sides, or the only side, have */
        void (*leave)(struct folder *folder); /* everything below is done */
};

/* Begins; the caller then runs share_run(). */
void walk(const struct visitor *visitor, struct folder *root);
void walk_into(struct child *child); /* enters a local folder whose remote side is missing, or was just removed */
void local_path(const struct folder *folder, const char *name, char *path); /* `path` holds PATH_MAX bytes */
void share_path(const struct folder *folder, const char *name, char *path);

/* ---- the modes */

extern const struct visitor put_visitor, sync_visitor, get_visitor, verify_visitor, drop_visitor;

/* ---- attributes.c */

sattr3 attributes_of(const struct stat *local);
bool attributes_differ(const struct stat *local, const fattr3 *remote, bool with_time);
ftype3 type_of(mode_t mode);
bool same_time(const struct timespec *local, const nfstime3 *remote);

/* ---- links.c: files with several names */

struct link_group {
        struct handle handle;
        uint64_t fileid;
        char *path; /* get: the first local name */
        enum { LINK_UNDER_WAY, LINK_READY, LINK_FAILED } state;
        struct waiters waiting;
};

/* The group of a file with several names, by a number that the names share. `*first` tells that the caller is the
 * first to ask and must call link_settle(); everybody else waits until that has happened. */
struct link_group *link_group(uint64_t device, uint64_t number, bool *first);
void link_settle(struct link_group *group, bool ready);
/* Claims a remote file for a local one; false where another local file has claimed it. */
bool link_claim(uint64_t fileid, uint64_t device, uint64_t number);

#endif
