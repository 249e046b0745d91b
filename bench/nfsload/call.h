/* Inside of the share: one call under way. Only share.c, names.c and bulk.c know this. */
#ifndef NFSLOAD_CALL_H
#define NFSLOAD_CALL_H

#include "share.h"

enum operation {
        GETATTR, LOOKUP, READDIRPLUS, READLINK, MKDIR, CREATE, SYMLINK, MKNOD, LINK, REMOVE, RMDIR, SETATTR, COMMIT,
        WRITE, READ
};

struct connection;

/* One call under way. `take` copies what is wanted out of the answer, which lives only during the call-back. */
struct call {
        struct connection *connection;
        struct co *caller;
        nfsstat3 status;
        void (*take)(void *reply, void *out);
        void *out;
        void (*finish)(struct call *call, void *reply); /* for calls that nobody waits for one by one */
        uint64_t offset;
        size_t length;
        const struct handle *file;
        bool again; /* `finish` sent it once more */
};

/* One call with its answer: parks the caller. A server that is busy (JUKEBOX) is asked again. */
int call_perform(enum operation operation, void *args, void (*take)(void *, void *), void *out);

/* A call that nobody waits for: waits for room on a connection only; `finish` gets the answer. */
struct call *call_detached(void (*finish)(struct call *, void *), void *out);
void call_send(enum operation operation, void *args, struct call *call);
/* Sends a follow-up from within `finish`, with the room that the answered call had. */
void call_send_again(enum operation operation, void *args, struct call *call);

void call_sleep(double seconds);

static inline nfs_fh3 wire(const struct handle *handle)
{
        return (nfs_fh3){ .data = { handle->length, (char *)handle->bytes } };
}

#endif
