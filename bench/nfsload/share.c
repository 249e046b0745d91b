#include "call.h"

#include <nfsc/libnfs-raw-mount.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nfsload.h"

struct connection {
        struct nfs_context *nfs;
        struct rpc_context *rpc;
        int in_flight;
        double broken_since; /* 0 while it works */
};

struct share_counts counts;
size_t share_read_max, share_write_max;

static struct connection *connections;
static int connection_count, depth;
static int patience;
static struct waiters for_slot;

/* Coroutines that sleep until a time. */
static struct sleeper {
        struct co *co;
        double until;
        struct sleeper *next;
} *sleepers;

void call_sleep(double seconds)
{
        struct sleeper sleeper = { co_self(), now() + seconds, sleepers };
        sleepers = &sleeper;
        co_park();
}

static void wake_sleepers(void)
{
        double time = now();
        for (struct sleeper **at = &sleepers; *at;) {
                struct sleeper *sleeper = *at;
                if (sleeper->until <= time) {
                        *at = sleeper->next;
                        co_wake(sleeper->co);
                } else {
                        at = &sleeper->next;
                }
        }
}

/* ---- connections */

struct mount_result {
        bool done;
        struct handle root;
};

static void on_mount(struct rpc_context *rpc, int status, void *data, void *private)
{
        (void)rpc;
        struct mount_result *result = private;
        if (status != RPC_STATUS_SUCCESS)
                fail(3, "MOUNT failed: %s", status == RPC_STATUS_ERROR && data ? (char *)data : "no connection");
        mountres3 *reply = data;
        if (reply->fhs_status != MNT3_OK)
                fail(3, "the server refuses the mount: %s", mountstat3_to_str(reply->fhs_status));
        fhandle3 *root = &reply->mountres3_u.mountinfo.fhandle;
        if (root->fhandle3_len > sizeof result->root.bytes)
                fail(3, "the server's root handle is too long");
        result->root.length = root->fhandle3_len;
        memcpy(result->root.bytes, root->fhandle3_val, root->fhandle3_len);
        result->done = true;
}

struct mounting {
        const char *export;
        struct mount_result result;
};

static void on_connect(struct rpc_context *rpc, int status, void *data, void *private)
{
        struct mounting *mounting = private;
        if (status != RPC_STATUS_SUCCESS)
                fail(3, "cannot reach the server's MOUNT service: %s", data ? (char *)data : rpc_get_error(rpc));
        if (rpc_mount3_mnt_async(rpc, on_mount, (char *)mounting->export, &mounting->result) != 0)
                fail(3, "MOUNT: %s", rpc_get_error(rpc));
}

/* Asks MOUNT for the share's root handle, which libnfs keeps to itself. */
static void mount_root(const struct share_options *wanted, struct handle *root)
{
        struct mounting mounting = { .export = wanted->export };
        struct rpc_context *rpc = rpc_init_context();
        int begun = wanted->mount_port
                ? rpc_connect_port_async(rpc, wanted->server, wanted->mount_port, MOUNT_PROGRAM, MOUNT_V3, on_connect, &mounting)
                : rpc_connect_program_async(rpc, wanted->server, MOUNT_PROGRAM, MOUNT_V3, on_connect, &mounting);
        if (begun != 0)
                fail(3, "%s: %s", wanted->server, rpc_get_error(rpc));
        while (!mounting.result.done) {
                struct pollfd fd = { rpc_get_fd(rpc), (short)rpc_which_events(rpc), 0 };
                if (poll(&fd, 1, 10000) == 0)
                        fail(3, "%s: no answer from MOUNT", wanted->server);
                if (rpc_service(rpc, fd.revents) < 0)
                        fail(3, "%s: %s", wanted->server, rpc_get_error(rpc));
        }
        *root = mounting.result.root;
        rpc_destroy_context(rpc);
}

void share_open(const struct share_options *wanted, struct handle *root)
{
        mount_root(wanted, root);
        connection_count = wanted->connections;
        depth = wanted->depth;
        patience = wanted->patience_seconds;
        connections = calloc((size_t)connection_count, sizeof *connections);
        for (int i = 0; i < connection_count; i++) {
                struct nfs_context *nfs = nfs_init_context();
                char url[4200], ports[64] = "";
                if (wanted->port)
                        snprintf(ports, sizeof ports, "?nfsport=%d&mountport=%d", wanted->port, wanted->mount_port);
                snprintf(url, sizeof url, "nfs://%s%s%s", wanted->server, wanted->export, ports);
                struct nfs_url *parsed = nfs ? nfs_parse_url_dir(nfs, url) : NULL;
                if (!parsed)
                        fail(2, "%s: not a share's address: %s", url, nfs ? nfs_get_error(nfs) : "no memory");
                if (nfs_mount(nfs, parsed->server, parsed->path) != 0)
                        fail(3, "%s: %s", url, nfs_get_error(nfs));
                nfs_destroy_url(parsed);
                nfs_set_autoreconnect(nfs, -1);
                connections[i].nfs = nfs;
                connections[i].rpc = nfs_get_rpc_context(nfs);
                share_read_max = nfs_get_readmax(nfs);
                share_write_max = nfs_get_writemax(nfs);
        }
}

void share_close(void)
{
        for (int i = 0; i < connection_count; i++)
                nfs_destroy_context(connections[i].nfs);
        free(connections);
}

/* A connection that stays broken for longer than the patience ends the program; before that libnfs opens it again. */
static void note_health(struct connection *connection, bool working)
{
        if (working) {
                connection->broken_since = 0;
                return;
        }
        if (connection->broken_since == 0) {
                connection->broken_since = now();
                counts.reconnects++;
        }
        if (now() - connection->broken_since > patience)
                fail(3, "the server has not answered for %d s: %s", patience, nfs_get_error(connection->nfs));
}

void share_run(void (*each_second)(void))
{
        double next_second = now() + 1;
        struct pollfd fds[connection_count];
        while (co_run_ready() > 0) {
                bool broken = false;
                for (int i = 0; i < connection_count; i++) {
                        fds[i] = (struct pollfd){ nfs_get_fd(connections[i].nfs), (short)nfs_which_events(connections[i].nfs), 0 };
                        broken |= connections[i].broken_since != 0;
                }
                poll(fds, (nfds_t)connection_count, sleepers || broken ? 20 : 250);
                for (int i = 0; i < connection_count; i++) {
                        struct connection *connection = &connections[i];
                        bool hung_up = fds[i].revents & (POLLERR | POLLHUP | POLLNVAL);
                        if (nfs_service(connection->nfs, fds[i].revents) < 0 || hung_up)
                                note_health(connection, false);
                        /* Connecting again to a server that is down fails at once: do not spin. */
                        if (connection->broken_since != 0 && hung_up)
                                usleep(50000);
                }
                wake_sleepers();
                if (now() >= next_second) {
                        next_second = now() + 1;
                        each_second();
                }
        }
}

/* ---- calls */

static int issue(enum operation operation, struct rpc_context *rpc, rpc_cb done, void *args, struct call *call)
{
        switch (operation) {
        case GETATTR: return rpc_nfs3_getattr_async(rpc, done, args, call);
        case LOOKUP: return rpc_nfs3_lookup_async(rpc, done, args, call);
        case READDIRPLUS: return rpc_nfs3_readdirplus_async(rpc, done, args, call);
        case READLINK: return rpc_nfs3_readlink_async(rpc, done, args, call);
        case MKDIR: return rpc_nfs3_mkdir_async(rpc, done, args, call);
        case CREATE: return rpc_nfs3_create_async(rpc, done, args, call);
        case SYMLINK: return rpc_nfs3_symlink_async(rpc, done, args, call);
        case MKNOD: return rpc_nfs3_mknod_async(rpc, done, args, call);
        case LINK: return rpc_nfs3_link_async(rpc, done, args, call);
        case REMOVE: return rpc_nfs3_remove_async(rpc, done, args, call);
        case RMDIR: return rpc_nfs3_rmdir_async(rpc, done, args, call);
        case SETATTR: return rpc_nfs3_setattr_async(rpc, done, args, call);
        case COMMIT: return rpc_nfs3_commit_async(rpc, done, args, call);
        case WRITE: return rpc_nfs3_write_async(rpc, done, args, call);
        case READ: return rpc_nfs3_read_async(rpc, done, args, call);
        }
        return -1;
}

static void on_answer(struct rpc_context *rpc, int status, void *reply, void *private)
{
        struct call *call = private;
        if (status != RPC_STATUS_SUCCESS)
                fail(3, "a call failed without an answer: %s", rpc_get_error(rpc));
        note_health(call->connection, true);
        call->connection->in_flight--;
        co_wake_one(&for_slot);
        call->status = *(nfsstat3 *)reply; /* every NFSv3 reply but NULL's begins with it */
        if (call->finish) {
                call->again = false;
                call->finish(call, reply);
                if (!call->again)
                        free(call);
                return;
        }
        if (call->status == NFS3_OK && call->take)
                call->take(reply, call->out);
        co_wake(call->caller);
}

/* The connection with the fewest calls in flight, or NULL when all are full. */
static struct connection *emptiest(void)
{
        struct connection *best = &connections[0];
        for (int i = 1; i < connection_count; i++)
                if (connections[i].in_flight < best->in_flight)
                        best = &connections[i];
        return best->in_flight < depth ? best : NULL;
}

void share_wait_for_room(void)
{
        while (!emptiest())
                co_wait(&for_slot);
}

static struct connection *acquire(void)
{
        share_wait_for_room();
        struct connection *best = emptiest();
        best->in_flight++;
        counts.calls++;
        return best;
}

void call_send(enum operation operation, void *args, struct call *call)
{
        if (issue(operation, call->connection->rpc, on_answer, args, call) != 0)
                fail(3, "cannot send a call: %s", rpc_get_error(call->connection->rpc));
}

int call_perform(enum operation operation, void *args, void (*take)(void *, void *), void *out)
{
        for (;;) {
                struct call call = { .connection = acquire(), .caller = co_self(), .take = take, .out = out };
                call_send(operation, args, &call);
                co_park();
                if (call.status != NFS3ERR_JUKEBOX)
                        return (int)call.status;
                counts.jukebox++;
                call_sleep(0.2);
        }
}

struct call *call_detached(void (*finish)(struct call *, void *), void *out)
{
        struct connection *connection = acquire();
        struct call *call = resize(NULL, sizeof *call);
        *call = (struct call){ .connection = connection, .finish = finish, .out = out };
        return call;
}

void call_send_again(enum operation operation, void *args, struct call *call)
{
        call->again = true;
        call->connection->in_flight++;
        counts.calls++;
        call_send(operation, args, call);
}
