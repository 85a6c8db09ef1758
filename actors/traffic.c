#include "actors/traffic.h"
#include "runtime/clock.h"

#include <inttypes.h>

enum {
    FIRST_TENANT = 1001,
    FIRST_CONTACT = 77000000,
    LATE_MS = 600000,
    REPEAT_WITHIN = 2000,
    ABOUT_WITHIN = 2000, /* a verdict follows its registration by so many messages at the most */
    TOKEN_WORDS = 8
};

typedef struct { /* what event i is about, before it is written out */
    uint32_t tenant;
    uint64_t device;
    int64_t at_ms;
    uint64_t random; /* generator state for the details */
} subject_t;

typedef struct { /* what an event says of its device, for whoever speaks of it later */
    bool has_push;
    uint64_t owner, generation; /* of the token */
} said_t;

static double fraction(uint64_t *random)
{
    return (double)(cm_random_next(random) >> 11) / 9007199254740992.0;
}

static bool happens(uint64_t *random, double share)
{
    return fraction(random) < share;
}

/* The tenant at u of [0, 1). */
static uint32_t tenant_at(const cm_traffic_t *self, double u)
{
    if (!self->uniform) /* cubed: the first tenth of the tenants sends nearly half */
        u = u * u * u;
    return (uint32_t)(u * self->tenants);
}

/* A known device is numbered over all tenants, so that its tenant follows from its number. */
static void choose_known(const cm_traffic_t *self, uint64_t d, subject_t *subject)
{
    subject->tenant = tenant_at(self, ((double)d + 0.5) / (double)self->known);
    subject->device = d;
}

static int64_t time_of(const cm_traffic_t *self, uint64_t i)
{
    return self->base_ms + (int64_t)(i * 1000 / (self->rate ? self->rate : 1000));
}

static subject_t choose(const cm_traffic_t *self, uint64_t i)
{
    subject_t subject = {.random = self->seed * 0x9e3779b97f4a7c15u + i * 0xd1b54a32d192ed03u};
    uint64_t *random = &subject.random;
    subject.tenant = tenant_at(self, fraction(random));
    subject.at_ms = time_of(self, i);
    if (self->known && !happens(random, self->fresh)) {
        choose_known(self, cm_random_below(random, self->known), &subject);
    } else if (self->known) {
        subject.device = self->known + i;
    } else {
        uint64_t pool = self->devices ? self->devices : 20 + i / (4 * (uint64_t)self->tenants);
        subject.device = cm_random_below(random, pool);
    }
    return subject;
}

static void write_device(cm_buffer_t *out, uint64_t *random)
{
    static const char *const models[] = {"Pixel 8", "Galaxy S24", "iPhone 15", "Mate 60",
                                         "Redmi Note 13"};
    static const char *const languages[] = {"en-US", "de-DE", "hu-HU", "pt-BR", "ja-JP"};
    cm_buffer_printf(out,
                     ",\"device\":{\"platform\":\"%s\",\"applicationVersion\":\"3.%d.%d\","
                     "\"deviceModel\":\"%s\",\"osVersion\":\"%d\",\"sdkVersion\":\"3.7.%d\","
                     "\"language\":\"%s\",\"timezone\":\"+0%d00\",\"pushSettings\":"
                     "{\"areNotificationsEnabled\":%s,\"importance\":-1000,\"channels\":"
                     "[{\"id\":\"news\",\"importance\":3,\"canBypassDnd\":false}]}}",
                     happens(random, 0.6) ? "android" : "ios", (int)cm_random_below(random, 9),
                     (int)cm_random_below(random, 20), models[cm_random_below(random, 5)],
                     (int)cm_random_below(random, 6) + 12, (int)cm_random_below(random, 9),
                     languages[cm_random_below(random, 5)], (int)cm_random_below(random, 9),
                     happens(random, 0.8) ? "true" : "false");
}

static void write_token(cm_buffer_t *out, uint32_t tenant, uint64_t owner, uint64_t generation)
{
    uint64_t text = owner;
    cm_buffer_printf(out, "\"token\":\"tok-%u-%" PRIu64 "-%" PRIx64 ":APA91b", tenant, owner,
                     generation);
    for (int i = 0; i < TOKEN_WORDS; i++)
        cm_buffer_printf(out, "%016" PRIx64, cm_random_next(&text));
    cm_buffer_printf(out, "\"");
}

/* A token stays with its device; now and then it is renewed, or the one of a neighbour: it moved.
 */
static void write_push(cm_buffer_t *out, const subject_t *subject, uint64_t *random, said_t *said)
{
    said->has_push = true;
    said->owner = subject->device + (happens(random, 0.02) ? 1 : 0);
    said->generation = happens(random, 0.03) ? cm_random_below(random, 4) : 0;
    cm_buffer_printf(out, ",\"push\":{");
    write_token(out, subject->tenant, said->owner, said->generation);
    cm_buffer_printf(out, ",\"addressType\":\"fcm\"}");
}

static void write_application(cm_buffer_t *out, uint32_t tenant)
{
    cm_buffer_printf(out, "{\"customerId\":%u,\"applicationCode\":\"APP%u-%05X\"",
                     FIRST_TENANT + tenant, tenant % 3, tenant);
}

static void write_client(cm_buffer_t *out, const subject_t *subject)
{
    cm_buffer_printf(out, ",\"clientId\":\"%08x-6d5c-4a53-9dd3-%012" PRIx64 "\"",
                     subject->tenant * 2654435761u, subject->device);
}

static said_t write_good(const cm_traffic_t *self, const subject_t *subject, cm_buffer_t *out)
{
    uint64_t random = subject->random;
    int64_t at_ms = subject->at_ms;
    said_t said = {0};
    if (!self->plain && happens(&random, 0.03))
        at_ms -= (int64_t)cm_random_below(&random, LATE_MS);
    write_application(out, subject->tenant);
    write_client(out, subject);
    cm_buffer_printf(out, ",\"eventTime\":%" PRId64, at_ms);
    if (!self->plain && happens(&random, 0.005)) {
        cm_buffer_printf(out, ",\"removed\":true}");
        return said;
    }
    write_device(out, &random);
    if (self->plain || happens(&random, 0.7))
        write_push(out, subject, &random, &said);
    if (self->plain || happens(&random, 0.6))
        cm_buffer_printf(out, ",\"contact\":{\"contactId\":%" PRIu64 ",\"contactFieldId\":3}",
                         subject->device / 2 + FIRST_CONTACT);
    cm_buffer_printf(out, "}");
    return said;
}

static void write_poison(const subject_t *subject, cm_buffer_t *out)
{
    static const char *const rests[] = {
        ",\"clientId\":\"x\"",                                                   /* truncated */
        ",\"clientId\":7,\"eventTime\":1,\"device\":{}}",                        /* wrong type */
        ",\"clientId\":\"x\",\"eventTime\":\"soon\",\"device\":{}}",             /* no time */
        ",\"clientId\":\"x\",\"eventTime\":1}",                                  /* no group */
        ",\"clientId\":\"x\",\"clientId\":\"y\",\"eventTime\":1,\"device\":{}}", /* twice */
    };
    uint64_t random = subject->random;
    cm_buffer_printf(out, "{\"customerId\":%u,\"applicationCode\":\"APP\"%s",
                     FIRST_TENANT + subject->tenant, rests[cm_random_below(&random, 5)]);
}

/* What event i is about, and where its details begin; true when it is malformed. */
static bool choose_event(const cm_traffic_t *self, uint64_t i, subject_t *ret_subject)
{
    subject_t subject = choose(self, i);
    uint64_t *random = &subject.random;
    if (!self->plain && i > 0 && happens(random, 0.02)) {
        uint64_t back = 1 + cm_random_below(random, i < REPEAT_WITHIN ? i : REPEAT_WITHIN);
        subject = choose(self, i - back);
        happens(&subject.random, 0); /* stand where the original stood */
    }
    bool poisoned = happens(random, self->poison);
    *ret_subject = subject;
    return poisoned;
}

void cm_traffic_event(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out)
{
    subject_t subject;
    cm_buffer_clear(out);
    if (choose_event(self, i, &subject))
        write_poison(&subject, out);
    else
        write_good(self, &subject, out);
}

static subject_t choose_registration(const cm_traffic_t *self, uint64_t d)
{
    subject_t subject = {.at_ms = self->base_ms - 1,
                         .random = self->seed ^ (d * 0xd1b54a32d192ed03u)};
    choose_known(self, d, &subject);
    return subject;
}

void cm_traffic_registration(const cm_traffic_t *self, uint64_t d, cm_buffer_t *out)
{
    cm_buffer_clear(out);
    subject_t subject = choose_registration(self, d);
    write_good(self, &subject, out);
}

/* ---- verdicts and deletions ----------------------------------------------------------------- */

/* A generator of its own: the events of a seed do not depend on what is between them. */
static uint64_t random_of(const cm_traffic_t *self, uint64_t i)
{
    return (self->seed + 1) * 0xbf58476d1ce4e5b9u + i * 0x94d049bb133111ebu;
}

static cm_subscription_id_t topic_of(const cm_traffic_t *self, uint64_t i)
{
    uint64_t random = random_of(self, i);
    double u = i ? fraction(&random) : 1;
    if (u < self->verdicts)
        return happens(&random, 0.1) ? CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS
                                     : CM_SUBSCRIPTION_PUSH_TOKEN_STATUS;
    return u < self->verdicts + self->contact_deletions ? CM_SUBSCRIPTION_CONTACT_DELETION
                                                        : CM_SUBSCRIPTION_WRITER;
}

/* The device that something is to be said of, and what its event said. */
static said_t look_back(const cm_traffic_t *self, uint64_t i, uint64_t *random,
                        subject_t *ret_subject)
{
    cm_buffer_t body = {0};
    if (self->known) {
        *ret_subject = choose_registration(self, cm_random_below(random, self->known));
    } else {
        uint64_t before = i < ABOUT_WITHIN ? i : ABOUT_WITHIN;
        uint64_t j = i - (before ? 1 + cm_random_below(random, before) : 0);
        while (j && topic_of(self, j) != CM_SUBSCRIPTION_WRITER)
            j--;
        choose_event(self, j, ret_subject);
    }
    said_t said = write_good(self, ret_subject, &body);
    cm_buffer_destroy(&body);
    return said;
}

static void write_answer(cm_buffer_t *out, uint64_t *random, bool web)
{
    static const char *const answers[][2] = {
        {"\"httpStatus\":200", "\"httpStatus\":201"},
        {"\"httpStatus\":404,\"errorCode\":\"UNREGISTERED\"", "\"httpStatus\":410"},
        {"\"httpStatus\":429,\"errorCode\":\"QUOTA_EXCEEDED\"", "\"httpStatus\":429"},
        {"\"httpStatus\":503,\"errorCode\":\"UNAVAILABLE\"", "\"httpStatus\":503"},
    };
    double u = fraction(random);
    int kind = u < 0.9 ? 0 : u < 0.96 ? 1 : u < 0.98 ? 2 : 3;
    cm_buffer_printf(out, ",\"provider\":\"%s\",\"response\":{%s}}", web ? "webpush" : "fcm",
                     answers[kind][web]);
}

void cm_traffic_verdict(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out)
{
    subject_t subject;
    uint64_t random = random_of(self, i) ^ 0x5851f42d4c957f2du;
    said_t said = look_back(self, i, &random, &subject);
    cm_buffer_clear(out);
    write_application(out, subject.tenant);
    if (!said.has_push || happens(&random, 0.5))
        write_client(out, &subject);
    if (said.has_push) {
        cm_buffer_printf(out, ",");
        write_token(out, subject.tenant, said.owner, said.generation);
    }
    cm_buffer_printf(out, ",\"eventTime\":%" PRId64, time_of(self, i));
    if (happens(&random, 0.5)) /* the sender judged */
        cm_buffer_printf(out, ",\"status\":\"%s\"}", happens(&random, 0.95) ? "valid" : "invalid");
    else
        write_answer(out, &random, topic_of(self, i) == CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS);
}

static uint64_t divisor_of_both(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The device whose contact deletion i is about: all in turn, but none beside the last. */
static uint64_t device_in_turn(const cm_traffic_t *self, uint64_t i)
{
    uint64_t contacts = (self->known + 1) / 2, step = 7919;
    while (divisor_of_both(contacts, step) != 1)
        step++;
    return 2 * (i % contacts * step % contacts);
}

void cm_traffic_contact_deletion(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out)
{
    subject_t subject;
    uint64_t random = random_of(self, i) ^ 0x5851f42d4c957f2du;
    if (self->known)
        choose_known(self, device_in_turn(self, i), &subject);
    else
        look_back(self, i, &random, &subject);
    cm_buffer_clear(out);
    cm_buffer_printf(out, "{\"customerId\":%u,\"contactId\":%" PRIu64 ",\"deletedAt\":%" PRId64 "}",
                     FIRST_TENANT + subject.tenant, subject.device / 2 + FIRST_CONTACT,
                     time_of(self, i));
}

cm_subscription_id_t cm_traffic_message(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out)
{
    cm_subscription_id_t topic = topic_of(self, i);
    if (topic == CM_SUBSCRIPTION_WRITER)
        cm_traffic_event(self, i, out);
    else if (topic == CM_SUBSCRIPTION_CONTACT_DELETION)
        cm_traffic_contact_deletion(self, i, out);
    else
        cm_traffic_verdict(self, i, out);
    return topic;
}

/* ---- tenants -------------------------------------------------------------------------------- */

uint32_t cm_traffic_tenant(uint32_t t)
{
    return FIRST_TENANT + t;
}

void cm_traffic_activation(const cm_traffic_t *self, uint32_t t, cm_buffer_t *out)
{
    char time[CM_TIME_TEXT_MAX];
    cm_buffer_clear(out);
    cm_buffer_printf(out, "{\"customerId\":%u,\"name\":\"demo-%u\",\"eventTime\":\"%s\"}",
                     FIRST_TENANT + t, t + 1, cm_clock_format(self->base_ms, time));
}

void cm_traffic_account_deletion(uint32_t t, int64_t at_ms, cm_buffer_t *out)
{
    char time[CM_TIME_TEXT_MAX];
    cm_buffer_clear(out);
    cm_buffer_printf(out,
                     "{\"customerId\":%u,\"requestedBy\":\"demo\",\"reason\":\"contract end\","
                     "\"eventTime\":\"%s\"}",
                     FIRST_TENANT + t, cm_clock_format(at_ms, time));
}
