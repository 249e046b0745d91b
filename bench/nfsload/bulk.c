/* Reading and writing: many calls in flight for one file, nobody waiting for a single one. */
#include <string.h>

#include "call.h"
#include "nfsload.h"

static void note_verifier(struct writer *writer, const writeverf3 verifier)
{
        if (writer->has_verifier && memcmp(writer->verifier, verifier, sizeof writer->verifier) != 0)
                writer->verifier_changed = true;
        writer->has_verifier = true;
        memcpy(writer->verifier, verifier, sizeof writer->verifier);
}

static void on_written(struct call *call, void *reply)
{
        struct writer *writer = call->out;
        if (call->status == NFS3_OK) {
                WRITE3resok *ok = &((WRITE3res *)reply)->WRITE3res_u.resok;
                note_verifier(writer, ok->verf);
                counts.sent_bytes += ok->count;
                /* Less than asked is allowed but unheard of for a file; it is taken as a failure, never as success. */
                if (ok->count != call->length && writer->status == NFS3_OK)
                        writer->status = NFS3ERR_IO;
        } else if (writer->status == NFS3_OK) {
                writer->status = (int)call->status;
        }
        writer->pending--;
        if (writer->pending == 0 && writer->waiting) {
                co_wake(writer->waiting);
                writer->waiting = NULL;
        }
}

void share_write(struct writer *writer, const struct handle *file, uint64_t offset, const char *bytes, size_t length,
                 bool stable)
{
        struct call *call = call_detached(on_written, writer);
        call->length = length;
        WRITE3args args = {
                .file = wire(file), .offset = offset, .count = (count3)length, .stable = stable ? FILE_SYNC : UNSTABLE,
                .data = { (u_int)length, (char *)bytes },
        };
        writer->pending++;
        call_send(WRITE, &args, call);
}

static void take_commit(void *reply, void *out)
{
        note_verifier(out, ((COMMIT3res *)reply)->COMMIT3res_u.resok.verf);
}

int share_finish(struct writer *writer, const struct handle *file, bool stable, bool *again)
{
        *again = false;
        if (writer->pending > 0) {
                writer->waiting = co_self();
                co_park();
        }
        if (writer->status == NFS3ERR_JUKEBOX) {
                counts.jukebox++;
                call_sleep(0.2);
                *again = true;
                return NFS3_OK;
        }
        if (writer->status != NFS3_OK || stable || !writer->has_verifier)
                return writer->status;
        COMMIT3args args = { wire(file), 0, 0 };
        int status = call_perform(COMMIT, &args, take_commit, writer);
        if (status == NFS3_OK && writer->verifier_changed) {
                counts.verifier_changes++;
                *again = true;
        }
        return status;
}

static void on_read(struct call *call, void *reply)
{
        struct reader *reader = call->out;
        if (call->status == NFS3_OK) {
                READ3resok *ok = &((READ3res *)reply)->READ3res_u.resok;
                counts.received_bytes += ok->data.data_len;
                size_t got = ok->data.data_len;
                if (reader->sink_error == 0)
                        reader->sink_error = reader->sink(reader->context, call->offset, ok->data.data_val, got);
                /* A server may answer with less than was asked: ask for the rest. */
                if (got > 0 && got < call->length && !ok->eof) {
                        call->offset += got;
                        call->length -= got;
                        READ3args args = { wire(call->file), call->offset, (count3)call->length };
                        call_send_again(READ, &args, call);
                        return;
                }
        } else if (reader->status == NFS3_OK) {
                reader->status = (int)call->status;
        }
        reader->pending--;
        if (reader->pending == 0 && reader->waiting) {
                co_wake(reader->waiting);
                reader->waiting = NULL;
        }
}

void share_read(struct reader *reader, const struct handle *file, uint64_t offset, size_t length)
{
        struct call *call = call_detached(on_read, reader);
        call->offset = offset;
        call->length = length;
        call->file = file;
        READ3args args = { wire(file), offset, (count3)length };
        reader->pending++;
        call_send(READ, &args, call);
}

int share_await(struct reader *reader)
{
        if (reader->pending > 0) {
                reader->waiting = co_self();
                co_park();
        }
        return reader->status;
}
