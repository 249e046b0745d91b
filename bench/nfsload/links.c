/* Files with several names. Memory grows with the number of such files, not with that of all files. */
#include <stdlib.h>

#include "nfsload.h"

struct record {
        uint64_t key, device, number;
        struct link_group group;
        struct record *next;
};

struct table {
        struct record **buckets;
        size_t size, count;
};

static struct table groups, claims;

static size_t slot(const struct table *table, uint64_t key, uint64_t device)
{
        return (size_t)((key * 0x9e3779b97f4a7c15u ^ device * 0xbf58476d1ce4e5b9u) >> 20) & (table->size - 1);
}

static void grow(struct table *table)
{
        struct table bigger = { NULL, table->size ? 2 * table->size : 1024, table->count };
        bigger.buckets = calloc(bigger.size, sizeof *bigger.buckets);
        if (!bigger.buckets)
                fail(2, "no memory for hard links");
        for (size_t i = 0; i < table->size; i++) {
                for (struct record *record = table->buckets[i], *next; record; record = next) {
                        next = record->next;
                        struct record **bucket = &bigger.buckets[slot(&bigger, record->key, record->device)];
                        record->next = *bucket;
                        *bucket = record;
                }
        }
        free(table->buckets);
        *table = bigger;
}

static struct record *find(struct table *table, uint64_t key, uint64_t device, bool *added)
{
        if (table->count >= table->size)
                grow(table);
        struct record **bucket = &table->buckets[slot(table, key, device)];
        for (struct record *record = *bucket; record; record = record->next) {
                if (record->key == key && record->device == device) {
                        *added = false;
                        return record;
                }
        }
        struct record *record = calloc(1, sizeof *record);
        if (!record)
                fail(2, "no memory for hard links");
        *record = (struct record){ .key = key, .device = device, .next = *bucket };
        *bucket = record;
        table->count++;
        *added = true;
        return record;
}

struct link_group *link_group(uint64_t device, uint64_t number, bool *first)
{
        struct record *record = find(&groups, number, device, first);
        while (!*first && record->group.state == LINK_UNDER_WAY)
                co_wait(&record->group.waiting);
        return &record->group;
}

void link_settle(struct link_group *group, bool ready)
{
        group->state = ready ? LINK_READY : LINK_FAILED;
        co_wake_all(&group->waiting);
}

bool link_claim(uint64_t fileid, uint64_t device, uint64_t number)
{
        bool added;
        struct record *record = find(&claims, fileid, 0, &added);
        if (added) {
                record->device = 0;
                record->number = number;
                record->group.fileid = device;
        }
        return record->number == number && record->group.fileid == device;
}
