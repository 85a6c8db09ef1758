#include "runtime/redis.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static cm_redis_address_t parsed(const char *uri)
{
    cm_redis_address_t address;
    cm_error_t err = {0};
    memset(&address, 0xff, sizeof address);
    cr_assert(eq(int, cm_redis_parse(uri, &address, &err), CM_OK), "%s: %s", uri, err.message);
    return address;
}

static void refused(const char *uri)
{
    cm_redis_address_t address = {.port = -1};
    cm_error_t err = {0};
    cr_expect(eq(int, cm_redis_parse(uri, &address, &err), CM_MISCONFIGURED), "%s", uri);
    cr_expect(eq(int, err.status, CM_MISCONFIGURED), "%s", uri);
    cr_expect(ne(chr, err.message[0], 0), "%s", uri);
    cr_expect(eq(int, address.port, -1), "%s is written although refused", uri);
}

Test(redis_address, a_host_alone_has_the_usual_port_and_database_0)
{
    cm_redis_address_t address = parsed("redis://localhost");
    cr_expect(eq(str, address.host, "localhost"));
    cr_expect(eq(int, address.port, 6379));
    cr_expect(eq(int, address.database, 0));
    cr_expect(eq(str, address.user, ""));
    cr_expect(eq(str, address.password, ""));
}

Test(redis_address, takes_password_port_and_database)
{
    cm_redis_address_t address = parsed("redis://:s3cret@redis.example:6380/7");
    cr_expect(eq(str, address.host, "redis.example"));
    cr_expect(eq(int, address.port, 6380));
    cr_expect(eq(int, address.database, 7));
    cr_expect(eq(str, address.user, ""));
    cr_expect(eq(str, address.password, "s3cret"));
}

Test(redis_address, takes_a_user)
{
    cm_redis_address_t address = parsed("redis://app:pw@h/");
    cr_expect(eq(str, address.user, "app"));
    cr_expect(eq(str, address.password, "pw"));
    cr_expect(eq(int, address.database, 0));
}

Test(redis_address, decodes_a_password)
{
    cr_expect(eq(str, parsed("redis://:a%40b%2Fc%3a%25@h").password, "a@b/c:%"));
    cr_expect(eq(str, parsed("redis://:p@ss@h").password, "p@ss"));
}

Test(redis_address, takes_an_ipv6_address_in_brackets)
{
    cm_redis_address_t address = parsed("redis://[::1]:7000/1");
    cr_expect(eq(str, address.host, "::1"));
    cr_expect(eq(int, address.port, 7000));
    cr_expect(eq(int, address.database, 1));
    cr_expect(eq(str, parsed("redis://[fe80::2]").host, "fe80::2"));
}

Test(redis_address, takes_a_socket_path)
{
    cm_redis_address_t address = parsed("unix:///run/redis/redis.sock");
    cr_expect(eq(str, address.host, "/run/redis/redis.sock"));
    cr_expect(eq(int, address.port, 0));
    cr_expect(eq(int, address.database, 0));
    cr_expect(eq(int, parsed("unix:///s?db=3").database, 3));
}

Test(redis_address, refuses_what_is_no_address)
{
    static const char *const uris[] = {
        "",
        "localhost",
        "http://localhost",
        "redis://",
        "redis://:6379",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:",
        "redis://h:6379x",
        "redis://h/x",
        "redis://h/-1",
        "redis://[]:1",
        "redis://password@h",
        "redis://:%4@h",
        "redis://:%zz@h",
        "redis://:%00@h",
        "unix://",
        "unix://relative/path",
        "unix:///s?db=",
        "unix:///s?db=x",
        "unix:///s?password=x",
    };
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++)
        refused(uris[i]);
    refused(NULL);
}

Test(redis_address, refuses_what_does_not_fit)
{
    char uri[700];
    snprintf(uri, sizeof uri, "redis://%0300d", 0);
    refused(uri);
    snprintf(uri, sizeof uri, "redis://:%0300d@h", 0);
    refused(uri);
    snprintf(uri, sizeof uri, "unix:///%0107d", 0);
    refused(uri);
}

Test(redis_address, says_that_tls_needs_a_tunnel)
{
    cm_redis_address_t address;
    cm_error_t err = {0};
    cr_expect(eq(int, cm_redis_parse("rediss://h", &address, &err), CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(err.message, "tunnel"), NULL));
}

/* ---- replies --------------------------------------------------------------------------------- */

typedef struct {
    const char *text;
    cm_status_t status;
    const char *code;
} reply_t;

Test(redis_classify, follows_the_table_of_error_replies)
{
    static const reply_t replies[] = {
        {"LOADING Redis is loading the dataset in memory", CM_UNAVAILABLE, "LOADING"},
        {"MASTERDOWN Link with MASTER is down", CM_UNAVAILABLE, "MASTERDOWN"},
        {"CLUSTERDOWN Hash slot not served", CM_UNAVAILABLE, "CLUSTERDOWN"},
        {"TRYAGAIN Multiple keys request during rehashing", CM_UNAVAILABLE, "TRYAGAIN"},
        {"BUSY Redis is busy running a script.", CM_UNAVAILABLE, "BUSY"},
        {"NOREPLICAS Not enough good replicas to write.", CM_UNAVAILABLE, "NOREPLICAS"},
        {"MISCONF Errors writing to the AOF file", CM_UNAVAILABLE, "MISCONF"},
        {"UNBLOCKED the stream key no longer exists", CM_UNAVAILABLE, "UNBLOCKED"},
        {"READONLY You can't write against a read only replica.", CM_UNAVAILABLE, "READONLY"},
        {"OOM command not allowed when used memory > 'maxmemory'.", CM_UNAVAILABLE, "OOM"},
        {"ERR max number of clients reached", CM_UNAVAILABLE, "ERR"},
        {"NOGROUP No such key 's' or consumer group 'g'", CM_MISSING, "NOGROUP"},
        {"BUSYGROUP Consumer Group name already exists", CM_OK, "BUSYGROUP"},
        {"NOSCRIPT No matching script.", CM_TRANSIENT, "NOSCRIPT"},
        {"MOVED 3999 127.0.0.1:6381", CM_MISCONFIGURED, "MOVED"},
        {"ASK 3999 127.0.0.1:6381", CM_MISCONFIGURED, "ASK"},
        {"NOAUTH Authentication required.", CM_MISCONFIGURED, "NOAUTH"},
        {"WRONGPASS invalid username-password pair", CM_MISCONFIGURED, "WRONGPASS"},
        {"NOPERM this user has no permissions", CM_MISCONFIGURED, "NOPERM"},
        {"WRONGTYPE Operation against a key", CM_MISCONFIGURED, "WRONGTYPE"},
        {"CROSSSLOT Keys in request don't hash", CM_MISCONFIGURED, "CROSSSLOT"},
        {"EXECABORT Transaction discarded", CM_MISCONFIGURED, "EXECABORT"},
        {"ERR DB index is out of range", CM_MISCONFIGURED, "ERR"},
        {"ERR unknown command 'XAUTOCLAIM'", CM_MISCONFIGURED, "ERR"},
        {"ERR value is not an integer or out of range", CM_PERMANENT, "ERR"},
        {"ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
         CM_UNAVAILABLE, "OOM"},
        {"", CM_PERMANENT, ""},
        {NULL, CM_UNAVAILABLE, "link"},
    };
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        cm_error_t err = {0};
        const char *text = replies[i].text ? replies[i].text : "(lost)";
        cr_expect(eq(int, cm_redis_classify(replies[i].text, &err), replies[i].status), "%s", text);
        cr_expect(eq(int, err.status, replies[i].status), "%s", text);
        cr_expect(eq(str, err.code, (char *)replies[i].code), "%s", text);
    }
}

Test(redis_classify, keeps_the_message_to_one_line_and_a_long_word_within_the_code)
{
    cm_error_t err = {0};
    cm_redis_classify("ERR one\r\nERR two", &err);
    cr_expect(zero(ptr, strchr(err.message, '\n')));
    cr_expect(zero(ptr, strstr(err.message, "two")));
    cr_expect(eq(int, cm_redis_classify("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOP x", &err),
                 CM_PERMANENT));
    cr_expect(eq(sz, strlen(err.code), CM_ERROR_CODE_MAX - 1));
    cr_expect(eq(int, cm_redis_classify("OOM x", NULL), CM_UNAVAILABLE));
}
