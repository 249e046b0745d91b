#include "co.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

/* Reserved, not used: pages become real when they are touched. Deep trees need a frame a level. */
#define STACK_BYTES (1u << 20)

struct co {
        ucontext_t context;
        void (*run)(void *);
        void *argument;
        void *stack;
        struct co *next;
        int finished;
};

static ucontext_t scheduler;
static struct co *current;
static struct waiters ready;
static int living;

static void push(struct waiters *list, struct co *co)
{
        co->next = NULL;
        if (list->last)
                list->last->next = co;
        else
                list->first = co;
        list->last = co;
}

static struct co *pop(struct waiters *list)
{
        struct co *co = list->first;
        if (co) {
                list->first = co->next;
                if (!list->first)
                        list->last = NULL;
        }
        return co;
}

static void trampoline(void)
{
        current->run(current->argument);
        current->finished = 1;
        swapcontext(&current->context, &scheduler);
}

void co_spawn(void (*run)(void *), void *argument)
{
        struct co *co = calloc(1, sizeof *co);
        if (!co)
                abort();
        co->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        /* The lowest page is a guard: running off the stack must crash, not corrupt. */
        if (co->stack == MAP_FAILED || mprotect(co->stack, 4096, PROT_NONE) != 0) {
                perror("nfsload: no memory for a stack");
                exit(2);
        }
        getcontext(&co->context);
        co->context.uc_stack.ss_sp = co->stack;
        co->context.uc_stack.ss_size = STACK_BYTES;
        co->context.uc_link = NULL;
        co->run = run;
        co->argument = argument;
        makecontext(&co->context, trampoline, 0);
        living++;
        push(&ready, co);
}

struct co *co_self(void)
{
        return current;
}

void co_park(void)
{
        swapcontext(&current->context, &scheduler);
}

void co_wake(struct co *co)
{
        push(&ready, co);
}

void co_wait(struct waiters *waiters)
{
        push(waiters, current);
        co_park();
}

void co_wake_one(struct waiters *waiters)
{
        struct co *co = pop(waiters);
        if (co)
                push(&ready, co);
}

void co_wake_all(struct waiters *waiters)
{
        while (waiters->first)
                co_wake_one(waiters);
}

int co_run_ready(void)
{
        struct co *co;
        while ((co = pop(&ready))) {
                current = co;
                swapcontext(&scheduler, &co->context);
                current = NULL;
                if (co->finished) {
                        munmap(co->stack, STACK_BYTES);
                        free(co);
                        living--;
                }
        }
        return living;
}
