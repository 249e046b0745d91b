/* nfsload: carries a tree into an NFS share with everything that belongs to it, or back, or compares the two.
 *
 * The protocol is spoken by libnfs, so that the server is tried by a client that knows nothing of it. Many calls are
 * in flight on several connections, from one thread. Memory is bounded by connections x depth x the share's largest
 * transfer, plus what the folders under way hold, plus a record for each file that has several names.
 *
 * Exit codes: 0 all done; 1 the trees differ or some files failed; 2 wrong use; 3 the server cannot be reached. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "nfsload.h"

/* How many failures and differences are printed one by one. */
#define LINES_MAX 20

struct options options = {
        .share = { .connections = 2, .depth = 128, .patience_seconds = 60 },
        .workers = 256,
};
struct totals totals;

static double started;

static const char help[] =
        "nfsload put|sync|get|verify|drop DIR HOST:/EXPORT [options]\n"
        "  put      copy DIR into the share; what is there already is overwritten where it differs\n"
        "  sync     make the share equal to DIR: changed files are written, the rest of the share is removed\n"
        "  get      copy the share into DIR, which is new or empty\n"
        "  verify   compare both, every byte, and write nothing\n"
        "  drop     read from the share what DIR names, and throw it away\n"
        "  --port N          of NFS and MOUNT (else the portmapper is asked)\n"
        "  --mount-port N    of MOUNT, where it is another\n"
        "  --connections N   TCP connections (2)\n"
        "  --depth N         calls in flight on each (128)\n"
        "  --workers N       files and folders under way at once (256)\n"
        "  --patience S      how long to wait for a server that went away (60)\n"
        "  --no-owner        leave owners and groups alone (the default for anyone but root)\n"
        "  --every-byte      sync, put: write unchanged files as well\n"
        "  --json            report as JSON on standard output\n"
        "  --progress        a line a second on standard error\n";

double now(void)
{
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void *resize(void *memory, size_t size)
{
        memory = realloc(memory, size);
        if (!memory)
                fail(2, "no memory for %zu bytes", size);
        return memory;
}

void fail(int code, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        fputs("nfsload: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
        exit(code);
}

static void tell(uint64_t number, const char *path, const char *format, va_list arguments)
{
        if (number > LINES_MAX)
                return;
        fprintf(stderr, "nfsload: %s: ", path);
        vfprintf(stderr, format, arguments);
        fputs(number == LINES_MAX ? "\nnfsload: further lines are left out\n" : "\n", stderr);
}

void complain(const char *path, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        tell(++totals.failures, path, format, arguments);
        va_end(arguments);
}

void differ(const char *path, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        tell(++totals.differences, path, format, arguments);
        va_end(arguments);
}

static unsigned long long done(void)
{
        return totals.files + totals.symlinks + totals.specials + totals.links + totals.unchanged;
}

static void each_second(void)
{
        static uint64_t before;
        static double before_time;
        if (!options.progress)
                return;
        double time = now(), span = time - (before_time ? before_time : started);
        fprintf(stderr, "%s%5.0f s  %9llu files  %9.1f MB  %7.1f MB/s%s", isatty(2) ? "\r" : "", time - started, done(),
                (double)totals.bytes / 1e6, (double)(totals.bytes - before) / 1e6 / span, isatty(2) ? "" : "\n");
        before = totals.bytes;
        before_time = time;
}

static double seconds_of(struct timeval time)
{
        return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void report(const char *mode)
{
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        double seconds = now() - started;
        double rate = (double)totals.bytes / 1e6 / (seconds > 0 ? seconds : 1);
        if (options.progress && isatty(2))
                fputc('\n', stderr);
        if (!options.json) {
                printf("%s: %llu files, %llu folders, %llu symlinks, %llu hard links, %llu special, %llu unchanged, "
                       "%llu removed; %.1f MB in %.2f s (%.1f MB/s)\n",
                       mode, (unsigned long long)totals.files, (unsigned long long)totals.folders,
                       (unsigned long long)totals.symlinks, (unsigned long long)totals.links,
                       (unsigned long long)totals.specials, (unsigned long long)totals.unchanged,
                       (unsigned long long)totals.removed, (double)totals.bytes / 1e6, seconds, rate);
        } else {
                printf("{\"mode\":\"%s\",\"files\":%llu,\"folders\":%llu,\"symlinks\":%llu,\"links\":%llu,"
                       "\"specials\":%llu,\"unchanged\":%llu,\"removed\":%llu,\"bytes\":%llu,\"seconds\":%.3f,"
                       "\"mb_per_second\":%.1f,\"calls\":%llu,\"busy_answers\":%llu,\"reconnects\":%llu,"
                       "\"verifier_changes\":%llu,\"user_seconds\":%.3f,\"system_seconds\":%.3f,\"rss_max_bytes\":%lld,"
                       "\"failures\":%llu,\"differences\":%llu}\n",
                       mode, (unsigned long long)totals.files, (unsigned long long)totals.folders,
                       (unsigned long long)totals.symlinks, (unsigned long long)totals.links,
                       (unsigned long long)totals.specials, (unsigned long long)totals.unchanged,
                       (unsigned long long)totals.removed, (unsigned long long)totals.bytes, seconds, rate,
                       (unsigned long long)counts.calls, (unsigned long long)counts.jukebox,
                       (unsigned long long)counts.reconnects, (unsigned long long)counts.verifier_changes,
                       seconds_of(usage.ru_utime), seconds_of(usage.ru_stime), (long long)usage.ru_maxrss * 1024,
                       (unsigned long long)totals.failures, (unsigned long long)totals.differences);
        }
        if (totals.failures || totals.differences)
                fprintf(stderr, "nfsload: %llu failures, %llu differences\n", (unsigned long long)totals.failures,
                        (unsigned long long)totals.differences);
}

static int number(const char *text, int min, int max)
{
        char *end;
        long value = strtol(text, &end, 10);
        if (*end || end == text || value < min || value > max)
                fail(2, "'%s' is not a number from %d to %d", text, min, max);
        return (int)value;
}

static void parse(int argc, char **argv)
{
        static const struct option longs[] = {
                { "port", required_argument, 0, 'p' },     { "connections", required_argument, 0, 'c' },
                { "depth", required_argument, 0, 'd' },    { "workers", required_argument, 0, 'w' },
                { "patience", required_argument, 0, 't' }, { "no-owner", no_argument, 0, 'o' },
                { "mount-port", required_argument, 0, 'm' },
                { "every-byte", no_argument, 0, 'e' },     { "json", no_argument, 0, 'j' },
                { "progress", no_argument, 0, 'P' },       { "help", no_argument, 0, 'h' },
                { 0, 0, 0, 0 },
        };
        options.owner = geteuid() == 0;
        for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
                switch (option) {
                case 'p': options.share.port = number(optarg, 1, 65535); break;
                case 'm': options.share.mount_port = number(optarg, 1, 65535); break;
                case 'c': options.share.connections = number(optarg, 1, 64); break;
                case 'd': options.share.depth = number(optarg, 1, 1024); break;
                case 'w': options.workers = number(optarg, 1, 4096); break;
                case 't': options.share.patience_seconds = number(optarg, 0, INT_MAX); break;
                case 'o': options.owner = false; break;
                case 'e': options.every_byte = true; break;
                case 'j': options.json = true; break;
                case 'P': options.progress = true; break;
                case 'h': fputs(help, stdout); exit(0);
                default: exit(2);
                }
        }
        if (!options.share.mount_port)
                options.share.mount_port = options.share.port;
        if (argc - optind != 3) {
                fputs(help, stderr);
                exit(2);
        }
}

struct start {
        const struct visitor *visitor;
        struct folder *root;
};

static void begin(void *argument)
{
        struct start *start = argument;
        int status = share_getattr(&start->root->handle, &start->root->remote);
        if (status != NFS3_OK)
                fail(3, "the share's root: %s", nfsstat3_to_str(status));
        walk(start->visitor, start->root);
}

int main(int argc, char **argv)
{
        parse(argc, argv);
        const char *mode = argv[optind];
        const struct visitor *visitor = strcmp(mode, "put") == 0      ? &put_visitor
                                        : strcmp(mode, "sync") == 0   ? &sync_visitor
                                        : strcmp(mode, "get") == 0    ? &get_visitor
                                        : strcmp(mode, "verify") == 0 ? &verify_visitor
                                        : strcmp(mode, "drop") == 0   ? &drop_visitor
                                                                      : NULL;
        if (!visitor)
                fail(2, "no mode '%s'; try --help", mode);
        options.local = argv[optind + 1];
        char *address = argv[optind + 2], *colon = strstr(address, ":/");
        if (!colon)
                fail(2, "'%s' is not HOST:/EXPORT", address);
        *colon = 0;
        options.share.server = address;
        options.share.export = colon + 1;

        struct folder root = { .path = strdup(""), .has_local = visitor->local, .has_remote = true };
        if (visitor->local && (stat(options.local, &root.local) != 0 || !S_ISDIR(root.local.st_mode)))
                fail(2, "%s: %s", options.local, errno ? strerror(errno) : "not a folder");
        started = now();
        share_open(&options.share, &root.handle);
        struct start start = { visitor, &root };
        co_spawn(begin, &start);
        share_run(each_second);
        report(mode);
        share_close();
        return totals.failures || totals.differences ? 1 : 0;
}
