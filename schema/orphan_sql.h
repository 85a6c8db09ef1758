/* orphan_sql - what an orphan is, in SQL: for the deletion and for the figures, so that both agree.
 *
 * A device without contact for longer than an age. Since when: contact_at tells when the contact
 * was taken from it; created_at, when this database first had the row, which no update changes. The
 * later of both counts: created_at is by the database's clock, so a sender's clock in the past
 * makes no new device old; and a device that lost its contact lately is no orphan yet, however old
 * it is. Whether the device is still seen does not matter.
 */
#ifndef CM_SCHEMA_ORPHAN_SQL_H
#define CM_SCHEMA_ORPHAN_SQL_H

/* Of table alias d, age in seconds as SQL text. By the database's clock, when the statement began.
 */
#define CM_ORPHAN_SQL(d, age_s)                                                                    \
    "(" d ".contact_id IS NULL AND greatest(" d ".created_at, " d ".contact_at)"                   \
    " < statement_timestamp() - " age_s " * interval '1 second')"
#endif
