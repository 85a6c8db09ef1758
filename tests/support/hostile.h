/* hostile - device events no sender should send, with the code each must be refused with; and
 * events that look bad and must be accepted.
 *
 * Deterministic: body i is the same in every run. Every text value of a body holds
 * CM_HOSTILE_CANARY (unless the value is what the case is about), so that a test can prove that no
 * message or log line quotes a value. Device events of section 4 of events.md, all of them of one
 * tenant.
 */
#ifndef CM_TESTS_SUPPORT_HOSTILE_H
#define CM_TESTS_SUPPORT_HOSTILE_H
#include "runtime/buffer.h"

#define CM_HOSTILE_TENANT "218524530"
#define CM_HOSTILE_CANARY "cAnArY"

size_t cm_hostile_count(void);
/* *ret_body is replaced by bad body i; *ret_name says what is bad and lives in ret_body's memory,
 * *ret_code is what cm_device_event_decode() must set. */
void cm_hostile_get(size_t i, cm_buffer_t *ret_body, const char **ret_name, const char **ret_code);

size_t cm_hostile_good_count(void);
/* *ret_body is replaced by good body i, each of a device (clientId) of its own. */
void cm_hostile_good_get(size_t i, cm_buffer_t *ret_body, const char **ret_name);
#endif
