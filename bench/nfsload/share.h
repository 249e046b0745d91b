/* A share over NFSv3: libnfs does the protocol, this keeps many calls in flight on several connections.
 *
 * Every call parks the calling coroutine until its answer is there. A call returns 0 or an nfsstat3. A connection
 * that breaks is opened again by libnfs, which repeats what was unanswered (as a hard mount does); when that fails for
 * longer than the patience given, the program ends with a message and exit code 3. */
#ifndef NFSLOAD_SHARE_H
#define NFSLOAD_SHARE_H

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "co.h"

struct share_options {
        const char *server; /* host of the share */
        const char *export; /* path of the share */
        int port, mount_port; /* 0 asks the portmapper */
        int connections;
        int depth;          /* calls in flight on each connection */
        int patience_seconds;
};

struct share_counts {
        uint64_t calls, sent_bytes, received_bytes, jukebox, reconnects, verifier_changes;
};

struct handle {
        unsigned length;
        char bytes[NFS3_FHSIZE];
};

/* A file of the share as a listing or a lookup tells it. */
struct entry {
        char *name;
        bool has_attributes;
        fattr3 attributes;
        struct handle handle;
};

struct listing {
        struct entry *entries; /* sorted by name */
        size_t count;
};

/* Writes of one file in flight. Zeroed is ready for use. */
struct writer {
        int pending;
        int status; /* the first failure */
        bool has_verifier, verifier_changed;
        writeverf3 verifier;
        struct co *waiting;
};

/* What a reader does with bytes that arrived; called in any order of offsets. Returns 0 or an errno. */
typedef int (*read_sink)(void *context, uint64_t offset, const char *bytes, size_t length);

/* Reads of one file in flight. Set sink and context, zero the rest. */
struct reader {
        read_sink sink;
        void *context;
        int pending;
        int status;
        int sink_error;
        struct co *waiting;
};

extern struct share_counts counts;
extern size_t share_read_max, share_write_max;

void share_open(const struct share_options *options, struct handle *root); /* exits with a message on failure */
void share_run(void (*each_second)(void)); /* serves coroutines until none lives */
void share_close(void);

int share_getattr(const struct handle *file, fattr3 *attributes);
int share_lookup(const struct handle *dir, const char *name, struct entry *found);
int share_list(const struct handle *dir, struct listing *listing);
void share_free_listing(struct listing *listing);
int share_readlink(const struct handle *link, char **target);
int share_mkdir(const struct handle *dir, const char *name, uint32_t mode, struct entry *made);
/* Makes the file, or empties the regular file that is there. */
int share_create(const struct handle *dir, const char *name, uint32_t mode, struct entry *made);
int share_symlink(const struct handle *dir, const char *name, const char *target, struct entry *made);
int share_mknod(const struct handle *dir, const char *name, ftype3 type, uint32_t mode, specdata3 device,
                struct entry *made);
int share_link(const struct handle *file, const struct handle *dir, const char *name);
int share_remove(const struct handle *dir, const char *name);
int share_rmdir(const struct handle *dir, const char *name);
int share_setattr(const struct handle *file, const sattr3 *attributes);

/* Returns when a call can be sent without waiting. */
void share_wait_for_room(void);
/* Sends one write and returns without waiting for its answer; the bytes are copied. */
void share_write(struct writer *writer, const struct handle *file, uint64_t offset, const char *bytes, size_t length,
                 bool stable);
/* Waits for the writes and, unless they were stable, commits. `*again` tells that the server lost them on the way. */
int share_finish(struct writer *writer, const struct handle *file, bool stable, bool *again);
/* Asks for bytes and returns without waiting for them. */
void share_read(struct reader *reader, const struct handle *file, uint64_t offset, size_t length);
int share_await(struct reader *reader);

#endif
