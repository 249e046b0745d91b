/* Coroutines on one thread, so that code that waits for answers reads from top to bottom.
 *
 * One runs until it parks; whoever holds its handle wakes it. A coroutine is on one list at a time: the ready
 * list or a struct waiters. Nothing here is safe to use from a second thread. */
#ifndef NFSLOAD_CO_H
#define NFSLOAD_CO_H

struct co;

/* A queue of parked coroutines, first in, first out. Zeroed is empty. */
struct waiters {
        struct co *first, *last;
};

void co_spawn(void (*run)(void *), void *argument); /* begins with the next co_run_ready() */
struct co *co_self(void);
void co_park(void); /* returns after somebody called co_wake() */
void co_wake(struct co *co);
void co_wait(struct waiters *waiters); /* parks until co_wake_one() or co_wake_all() */
void co_wake_one(struct waiters *waiters);
void co_wake_all(struct waiters *waiters);
int co_run_ready(void); /* runs until every one is parked; returns how many live */

#endif
