/* letter_ids - whom the body of a dead letter is about, read as far as it can be read.
 *
 * A dead letter is often one because its body is bad. So this reads leniently: every id that stands
 * before the first fault counts, whatever the topic: applicationCode, clientId, token (of a
 * verdict; push.token of a device event is not asked), contact.contactId or contactId, also when it
 * is a string of digits, and the time (eventTime or deletedAt). Of what is missing after a fault
 * the first member of that name is taken, wherever it stands, if its value can be read by itself.
 * Never fails. Used to find letters
 * to erase, never to act on them. Pure functions.
 */
#ifndef CM_PROTO_LETTER_IDS_H
#define CM_PROTO_LETTER_IDS_H
#include "runtime/str.h"

typedef struct {
    cm_str_t application_code, client_id, token; /* into the body or the arena; absent: not found */
    bool has_contact_id;
    int64_t contact_id;
    int64_t at_ms; /* epoch; 0: not found */
    bool whole;    /* the body was read to its end: what was not found is not there */
} cm_letter_ids_t;

/* now_ms: as of cm_device_event_decode(); a time that it refuses is not found. */
void cm_letter_ids_read(cm_str_t body, int64_t now_ms, cm_arena_t *arena, cm_letter_ids_t *ret_ids);

/* For bodies that were not read to their end: does text stand in body between quotes; do the
 * decimal digits of number stand there as a word, with no letter or digit before or behind them (of
 * an id of hexadecimal digits, say). Marks, quotes of any kind, spaces, "_", escapes and bytes that
 * make no character end a word: when in doubt it is a mention. An escape in the body hides what it
 * stands for. */
bool cm_letter_quotes(cm_str_t body, cm_str_t text);
bool cm_letter_mentions(cm_str_t body, int64_t number);
#endif
