#include "actors/traffic.h"
#include "runtime/clock.h"

#include <inttypes.h>

enum { FIRST_TENANT = 1001, LATE_MS = 600000, REPEAT_WITHIN = 2000, TOKEN_WORDS = 8 };

typedef struct { /* what event i is about, before it is written out */
    uint32_t tenant;
    uint64_t device;
    int64_t at_ms;
    uint64_t random; /* generator state for the details */
} subject_t;

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

static subject_t choose(const cm_traffic_t *self, uint64_t i)
{
    subject_t subject = {.random = self->seed * 0x9e3779b97f4a7c15u + i * 0xd1b54a32d192ed03u};
    uint64_t *random = &subject.random;
    subject.tenant = tenant_at(self, fraction(random));
    subject.at_ms = self->base_ms + (int64_t)(i * 1000 / (self->rate ? self->rate : 1000));
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

/* A token stays with its device; now and then it is renewed, or the one of a neighbour: it moved.
 */
static void write_push(cm_buffer_t *out, const subject_t *subject, uint64_t *random)
{
    uint64_t owner = subject->device + (happens(random, 0.02) ? 1 : 0);
    uint64_t generation = happens(random, 0.03) ? cm_random_below(random, 4) : 0;
    uint64_t text = owner;
    cm_buffer_printf(out, ",\"push\":{\"token\":\"tok-%u-%" PRIu64 "-%" PRIx64 ":APA91b",
                     subject->tenant, owner, generation);
    for (int i = 0; i < TOKEN_WORDS; i++)
        cm_buffer_printf(out, "%016" PRIx64, cm_random_next(&text));
    cm_buffer_printf(out, "\",\"addressType\":\"fcm\"}");
}

static void write_good(const cm_traffic_t *self, const subject_t *subject, cm_buffer_t *out)
{
    uint64_t random = subject->random;
    int64_t at_ms = subject->at_ms;
    if (!self->plain && happens(&random, 0.03))
        at_ms -= (int64_t)cm_random_below(&random, LATE_MS);
    cm_buffer_printf(out,
                     "{\"customerId\":%u,\"applicationCode\":\"APP%u-%05X\",\"clientId\":"
                     "\"%08x-6d5c-4a53-9dd3-%012" PRIx64 "\",\"eventTime\":%" PRId64,
                     FIRST_TENANT + subject->tenant, subject->tenant % 3, subject->tenant,
                     subject->tenant * 2654435761u, subject->device, at_ms);
    if (!self->plain && happens(&random, 0.005)) {
        cm_buffer_printf(out, ",\"removed\":true}");
        return;
    }
    write_device(out, &random);
    if (self->plain || happens(&random, 0.7))
        write_push(out, subject, &random);
    if (self->plain || happens(&random, 0.6))
        cm_buffer_printf(out, ",\"contact\":{\"contactId\":%" PRIu64 ",\"contactFieldId\":3}",
                         subject->device / 2 + 77000000);
    cm_buffer_printf(out, "}");
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

void cm_traffic_event(const cm_traffic_t *self, uint64_t i, cm_buffer_t *out)
{
    cm_buffer_clear(out);
    subject_t subject = choose(self, i);
    uint64_t *random = &subject.random;
    if (!self->plain && i > 0 && happens(random, 0.02)) {
        uint64_t back = 1 + cm_random_below(random, i < REPEAT_WITHIN ? i : REPEAT_WITHIN);
        subject = choose(self, i - back);
        happens(&subject.random, 0); /* stand where the original stood */
    }
    if (happens(random, self->poison))
        write_poison(&subject, out);
    else
        write_good(self, &subject, out);
}

void cm_traffic_registration(const cm_traffic_t *self, uint64_t d, cm_buffer_t *out)
{
    cm_buffer_clear(out);
    subject_t subject = {.at_ms = self->base_ms - 1,
                         .random = self->seed ^ (d * 0xd1b54a32d192ed03u)};
    choose_known(self, d, &subject);
    write_good(self, &subject, out);
}

void cm_traffic_activation(const cm_traffic_t *self, uint32_t t, cm_buffer_t *out)
{
    char time[CM_TIME_TEXT_MAX];
    cm_buffer_clear(out);
    cm_buffer_printf(out, "{\"customerId\":%u,\"name\":\"demo-%u\",\"eventTime\":\"%s\"}",
                     FIRST_TENANT + t, t + 1, cm_clock_format(self->base_ms, time));
}
