/* hostile_dump - the corpus of tests/support/hostile.h on stdout, for a script.
 *
 * One line a body: "bad" or "good", errorCode ("-" when good), what is bad, the body in hex; separated
 * by tabs.
 */
#include "runtime/cleanup.h"
#include "tests/support/hostile.h"

#include <stdio.h>

static void print(const char *kind, const char *code, const char *name, const cm_buffer_t *body)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = (const unsigned char *)body->data;
    printf("%s\t%s\t%s\t", kind, code, name);
    for (size_t i = 0; i < body->len; i++) {
        putchar(digits[bytes[i] >> 4]);
        putchar(digits[bytes[i] & 15]);
    }
    putchar('\n');
}

int main(void)
{
    for (size_t i = 0; i < cm_hostile_count(); i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        const char *name = "", *code = "";
        cm_hostile_get(i, &body, &name, &code);
        print("bad", code, name, &body);
    }
    for (size_t i = 0; i < cm_hostile_good_count(); i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t body = {0};
        const char *name = "";
        cm_hostile_good_get(i, &body, &name);
        print("good", "-", name, &body);
    }
    return 0;
}
