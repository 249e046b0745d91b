/* Walks two trees side by side. A folder or a file is a task; a fixed number of workers takes tasks from a stack, so
 * that what is waiting stays near the depth of the tree times the size of its folders. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nfsload.h"

/* Above this many waiting tasks, a worker that finds files handles them itself. */
#define TASKS_MAX 8192

struct task {
        struct child child; /* a child, or with name == NULL a folder to enter */
        struct task *below;
};

static const struct visitor *visitor;
static struct task *stack;
static size_t waiting_tasks, busy;
static struct waiters idle;
static bool over;

static void join(const char *root, const struct folder *folder, const char *name, char *path)
{
        int length = snprintf(path, PATH_MAX, "%s%s%s%s%s", root, *folder->path ? "/" : "", folder->path, name ? "/" : "",
                              name ? name : "");
        if (length >= PATH_MAX)
                fail(2, "%s/%s/...: path too long", root, folder->path);
}

void local_path(const struct folder *folder, const char *name, char *path)
{
        join(options.local, folder, name, path);
}

void share_path(const struct folder *folder, const char *name, char *path)
{
        join("", folder, name, path);
}

static void push(struct child child)
{
        struct task *task = resize(NULL, sizeof *task);
        *task = (struct task){ child, stack };
        stack = task;
        waiting_tasks++;
        co_wake_one(&idle);
}

/* Something below the folder is done; when nothing is left, so is the folder, and then perhaps its parent. */
static void finish_one(struct folder *folder)
{
        while (folder && --folder->unfinished == 0) {
                struct folder *parent = folder->parent;
                visitor->leave(folder);
                free(folder->path);
                if (parent) /* the root belongs to the caller */
                        free(folder);
                folder = parent;
        }
}

static void run_child(struct child *child)
{
        visitor->child(child);
        finish_one(child->folder);
        free(child->name);
        free(child->remote.name);
}

/* ---- listing a folder */

struct local_list {
        char **names;
        size_t count;
};

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool list_local(const struct folder *folder, struct local_list *list)
{
        char path[PATH_MAX];
        local_path(folder, NULL, path);
        DIR *dir = opendir(path);
        if (!dir) {
                complain(path, "%s", strerror(errno));
                return false;
        }
        struct dirent *found;
        while ((found = readdir(dir))) {
                if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
                        continue;
                if ((list->count & (list->count - 1)) == 0)
                        list->names = resize(list->names, (list->count ? 2 * list->count : 1) * sizeof *list->names);
                list->names[list->count++] = strdup(found->d_name);
        }
        closedir(dir);
        qsort(list->names, list->count, sizeof *list->names, by_name);
        return true;
}

static bool is_folder(const struct child *child)
{
        bool local = !child->has_local || S_ISDIR(child->local.st_mode);
        bool remote = !child->has_remote || child->remote.attributes.type == NF3DIR;
        return local && remote && (child->has_local || !visitor->local);
}

static void push_folder(const struct child *child)
{
        struct folder *below = resize(NULL, sizeof *below);
        char path[PATH_MAX];
        share_path(child->folder, child->name, path);
        *below = (struct folder){
                .parent = child->folder, .path = strdup(path + 1), .handle = child->remote.handle, .local = child->local,
                .remote = child->remote.attributes, .has_local = child->has_local, .has_remote = child->has_remote,
        };
        child->folder->unfinished++;
        push((struct child){ .folder = below });
}

void walk_into(struct child *child)
{
        child->has_remote = false;
        push_folder(child);
}

static void found(struct child *child)
{
        if (is_folder(child)) {
                push_folder(child);
                free(child->name);
                free(child->remote.name);
                return;
        }
        child->folder->unfinished++;
        if (waiting_tasks < TASKS_MAX)
                push(*child);
        else
                run_child(child);
}

/* Lists both sides and hands out what either has. */
static void expand(struct folder *folder)
{
        struct local_list local = { 0 };
        struct listing remote = { 0 };
        if (visitor->local && folder->has_local && !list_local(folder, &local))
                return;
        if (visitor->remote && folder->has_remote) {
                int status = share_list(&folder->handle, &remote);
                if (status != NFS3_OK) {
                        char path[PATH_MAX];
                        share_path(folder, NULL, path);
                        complain(path, "cannot list: %s", nfsstat3_to_str(status));
                        goto done;
                }
        }
        for (size_t l = 0, r = 0; l < local.count || r < remote.count;) {
                int order = l == local.count ? 1 : r == remote.count ? -1 : strcmp(local.names[l], remote.entries[r].name);
                struct child child = { .folder = folder };
                if (order <= 0) {
                        char path[PATH_MAX];
                        child.name = local.names[l];
                        local.names[l++] = NULL;
                        local_path(folder, child.name, path);
                        child.has_local = lstat(path, &child.local) == 0;
                        if (!child.has_local)
                                complain(path, "%s", strerror(errno));
                }
                if (order >= 0) {
                        child.remote = remote.entries[r];
                        child.has_remote = child.remote.has_attributes;
                        remote.entries[r++].name = NULL;
                        if (!child.name)
                                child.name = strdup(child.remote.name);
                }
                if (child.has_local || child.has_remote) {
                        found(&child);
                } else {
                        free(child.name);
                        free(child.remote.name);
                }
        }
done:
        free(local.names);
        share_free_listing(&remote);
}

static void run_folder(struct folder *folder)
{
        folder->unfinished = 1;
        if (visitor->enter(folder))
                expand(folder);
        finish_one(folder);
}

static void work(void *unused)
{
        (void)unused;
        for (;;) {
                if (!stack) {
                        if (busy == 0) {
                                over = true;
                                co_wake_all(&idle);
                        }
                        if (over)
                                return;
                        co_wait(&idle);
                        continue;
                }
                struct task *task = stack;
                stack = task->below;
                waiting_tasks--;
                struct child child = task->child;
                free(task);
                busy++;
                if (child.name)
                        run_child(&child);
                else
                        run_folder(child.folder);
                busy--;
        }
}

void walk(const struct visitor *chosen, struct folder *root)
{
        visitor = chosen;
        push((struct child){ .folder = root });
        for (int i = 0; i < options.workers; i++)
                co_spawn(work, NULL);
}
