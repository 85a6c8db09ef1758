#include "runtime/pg_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Statements used in turn, a few more than may be kept, would each push out the one needed next:
 * PostgreSQL then plans all of them anew, at several times the price. */
enum { IN_USE_ROUNDS = 4 };

cm_pg_prepared_t *cm_pg_cache_use(cm_pg_cache_t *self, const char *key)
{
    cm_pg_prepared_t *prepared = NULL;
    self->uses++;
    HASH_FIND_STR(self->cached, key, prepared);
    if (!prepared)
        return NULL;
    prepared->used_at = self->uses;
    HASH_DEL(self->cached, prepared);
    HASH_ADD_KEYPTR(hh, self->cached, prepared->key, strlen(prepared->key), prepared);
    return prepared;
}

cm_pg_prepared_t *cm_pg_cache_add(cm_pg_cache_t *self, const char *key)
{
    cm_pg_prepared_t *prepared = calloc(1, sizeof *prepared);
    if (!prepared)
        abort();
    prepared->key = strdup(key);
    if (!prepared->key)
        abort();
    prepared->used_at = self->uses;
    snprintf(prepared->name, sizeof prepared->name, "cm%u", ++self->last_id);
    HASH_ADD_KEYPTR(hh, self->cached, prepared->key, strlen(prepared->key), prepared);
    return prepared;
}

size_t cm_pg_cache_count(const cm_pg_cache_t *self)
{
    return HASH_COUNT(self->cached);
}

cm_pg_prepared_t *cm_pg_cache_oldest(const cm_pg_cache_t *self)
{
    return self->cached;
}

bool cm_pg_cache_is_in_use(const cm_pg_cache_t *self, const cm_pg_prepared_t *prepared, size_t max)
{
    return self->uses - prepared->used_at < IN_USE_ROUNDS * max;
}

bool cm_pg_cache_is_retired(const cm_pg_cache_t *self, const cm_pg_prepared_t *prepared)
{
    (void)self;
    return prepared->prev !=
           NULL; /* utlist: the head's prev is the tail, so never NULL in a list */
}

void cm_pg_cache_retire(cm_pg_cache_t *self, cm_pg_prepared_t *prepared)
{
    if (cm_pg_cache_is_retired(self, prepared))
        return;
    HASH_DEL(self->cached, prepared);
    DL_APPEND(self->retired, prepared);
}

void cm_pg_cache_remove(cm_pg_cache_t *self, cm_pg_prepared_t *prepared)
{
    if (cm_pg_cache_is_retired(self, prepared))
        DL_DELETE(self->retired, prepared);
    else
        HASH_DEL(self->cached, prepared);
    free(prepared->key);
    free(prepared);
}

void cm_pg_cache_clear(cm_pg_cache_t *self)
{
    while (self->cached)
        cm_pg_cache_remove(self, self->cached);
    while (self->retired)
        cm_pg_cache_remove(self, self->retired);
    self->deallocate_all = false;
}
