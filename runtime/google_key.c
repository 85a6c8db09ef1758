#include "runtime/google_key.h"

#include "runtime/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { FILE_MAX = 64 << 10, TOKEN_MAX = 16 << 10, ASSERTION_LIFE_S = 3600 };

#define USER_TOKEN_URI "https://oauth2.googleapis.com/token"
#define ASSERTION_FORM "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="

struct cm_google_key {
    char *name, *token_uri;
    char *key_id; /* of a service account; may be NULL */
    EVP_PKEY *key;
    char *client_id, *client_secret, *refresh_token; /* of an authorized_user */
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

void cm_google_wipe(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

/* ---- JSON that carries secrets --------------------------------------------------------------- */

static void forget(json_t **object_p)
{
    const char *name;
    json_t *value;
    if (json_is_object(*object_p))
        json_object_foreach(*object_p, name, value) if (json_is_string(value))
            OPENSSL_cleanse((char *)(uintptr_t)json_string_value(value), json_string_length(value));
    json_decref(*object_p);
    *object_p = NULL;
}

/* NULL unless it is an object. ret_line: where it ceases to be JSON; 0 = it is JSON. The words of
 * jansson's error are not for others: they quote what stands there. */
static json_t *load(cm_str_t json, int *ret_line)
{
    json_error_t error;
    json_t *value = json_loadb(json.ptr ? json.ptr : "", json.len, JSON_REJECT_DUPLICATES, &error);
    *ret_line = value ? 0 : error.line;
    if (!json_is_object(value))
        forget(&value);
    return value;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text && *text ? text : NULL;
}

/* ---- reading a file -------------------------------------------------------------------------- */

static cm_status_t unfit(cm_error_t *err, const char *path, const char *what, const char *name)
{
    return cm_error_set(err, CM_MISCONFIGURED, "credentials-file", "credentials file %s %s%s", path,
                        what, name);
}

static cm_status_t take(char **ret_text, const json_t *object, const char *name, const char *path,
                        cm_error_t *err)
{
    const char *text = text_of(object, name);
    if (!text)
        return unfit(err, path, "lacks the field ", name);
    *ret_text = must(strdup(text));
    return CM_OK;
}

/* A secret goes there: in clear no further than this machine. */
static bool is_safe_uri(const char *uri)
{
    static const char *const starts[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    for (const char *c = uri; *c; c++)
        if (!isgraph((unsigned char)*c))
            return false;
    if (strncmp(uri, "https://", 8) == 0)
        return true;
    for (size_t i = 0; i < CM_LENGTH(starts); i++) {
        size_t len = strlen(starts[i]);
        if (strncmp(uri, starts[i], len) == 0 && (uri[len] == ':' || uri[len] == '/') &&
            !strchr(uri, '@'))
            return true;
    }
    return false;
}

/* Without it OpenSSL would ask at the terminal for the password of an encrypted key. */
static int no_password(char *buffer, int size, int writing, void *arg)
{
    (void)buffer, (void)size, (void)writing, (void)arg;
    return 0;
}

static EVP_PKEY *read_private_key(const char *pem)
{
    BIO *bio = must(BIO_new_mem_buf(pem, -1));
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static cm_status_t take_service_account(cm_google_key_t *self, const json_t *object,
                                        const char *path, cm_error_t *err)
{
    if (take(&self->name, object, "client_email", path, err) != CM_OK ||
        take(&self->token_uri, object, "token_uri", path, err) != CM_OK)
        return CM_MISCONFIGURED;
    const char *pem = text_of(object, "private_key"), *id = text_of(object, "private_key_id");
    if (!pem)
        return unfit(err, path, "lacks the field ", "private_key");
    self->key_id = id ? must(strdup(id)) : NULL;
    self->key = read_private_key(pem);
    return self->key ? CM_OK
                     : unfit(err, path, "has no RSA private key in the field ", "private_key");
}

static cm_status_t take_authorized_user(cm_google_key_t *self, const json_t *object,
                                        const char *path, cm_error_t *err)
{
    const char *account = text_of(object, "account"), *uri = text_of(object, "token_uri");
    self->name = must(strdup(account ? account : "authorized user"));
    self->token_uri = must(strdup(uri ? uri : USER_TOKEN_URI));
    if (take(&self->client_id, object, "client_id", path, err) != CM_OK ||
        take(&self->client_secret, object, "client_secret", path, err) != CM_OK)
        return CM_MISCONFIGURED;
    return take(&self->refresh_token, object, "refresh_token", path, err);
}

static cm_status_t take_all(cm_google_key_t *self, const json_t *object, const char *path,
                            cm_error_t *err)
{
    const char *type = text_of(object, "type");
    cm_status_t status;
    if (!type)
        return unfit(err, path, "lacks the field ", "type");
    if (strcmp(type, "service_account") == 0)
        status = take_service_account(self, object, path, err);
    else if (strcmp(type, "authorized_user") == 0)
        status = take_authorized_user(self, object, path, err);
    else if (strcmp(type, "external_account") == 0)
        return unfit(err, path, "has type external_account, which is not supported; ",
                     "use a service_account key, or the metadata server");
    else
        return unfit(err, path, "has an unknown type; known are ",
                     "service_account and authorized_user");
    if (status == CM_OK && !is_safe_uri(self->token_uri))
        return unfit(err, path, "has a token_uri that does not begin with ", "https://");
    return status;
}

cm_status_t cm_google_key_parse(cm_google_key_t **ret_self, const char *path, cm_str_t json,
                                cm_error_t *err)
{
    int line;
    CM_CLEANUP(forget) json_t *object = load(json, &line);
    if (line)
        return cm_error_set(err, CM_MISCONFIGURED, "credentials-file",
                            "credentials file %s is no JSON: line %d", path, line);
    if (!object)
        return unfit(err, path, "is no JSON object", "");
    CM_CLEANUP(cm_google_key_destroy) cm_google_key_t *self = must(calloc(1, sizeof *self));
    cm_status_t status = take_all(self, object, path, err);
    if (status == CM_OK)
        *ret_self = CM_TAKE(self);
    return status;
}

cm_status_t cm_google_key_read(cm_google_key_t **ret_self, const char *path, cm_error_t *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd == -1)
        return unfit(err, path, "cannot be opened: ", strerror(errno));
    char *text = must(malloc(FILE_MAX + 1));
    ssize_t len = 0, more = 1;
    while (more > 0 && len <= FILE_MAX) {
        more = read(fd, text + len, (size_t)(FILE_MAX + 1 - len));
        len += more > 0 ? more : 0;
    }
    int error = errno;
    close(fd);
    cm_status_t status;
    if (more == -1)
        status = unfit(err, path, "cannot be read: ", strerror(error));
    else if (len > FILE_MAX)
        status = unfit(err, path, "has more than 64 KiB", "");
    else
        status = cm_google_key_parse(ret_self, path, (cm_str_t){text, (size_t)len}, err);
    OPENSSL_cleanse(text, (size_t)len);
    free(text);
    return status;
}

void cm_google_key_destroy(cm_google_key_t **self_p)
{
    cm_google_key_t *self = *self_p;
    if (!self)
        return;
    free(self->name);
    free(self->token_uri);
    free(self->key_id);
    EVP_PKEY_free(self->key);
    cm_google_wipe(&self->client_id);
    cm_google_wipe(&self->client_secret);
    cm_google_wipe(&self->refresh_token);
    free(self);
    *self_p = NULL;
}

const char *cm_google_key_name(const cm_google_key_t *self)
{
    return self->name;
}

const char *cm_google_key_token_uri(const cm_google_key_t *self)
{
    return self->token_uri;
}

/* ---- asking for a token ---------------------------------------------------------------------- */

static void append_base64url(cm_buffer_t *to, const void *bytes, size_t len)
{
    cm_buffer_reserve(to, (len + 2) / 3 * 4 + 1); /* OpenSSL adds a NUL */
    char *text = to->data + to->len;
    int count = EVP_EncodeBlock((unsigned char *)text, bytes, (int)len);
    while (count > 0 && text[count - 1] == '=')
        count--;
    for (int i = 0; i < count; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    to->len += (size_t)count;
}

static void append_json(cm_buffer_t *to, json_t *object_owned)
{
    CM_CLEANUP(cm_free) char *text = must(json_dumps(must(object_owned), JSON_COMPACT));
    json_decref(object_owned);
    append_base64url(to, text, strlen(text));
}

static bool append_signature(const cm_google_key_t *self, cm_buffer_t *to, const char *signed_text,
                             size_t len)
{
    unsigned char signature[2048]; /* of a key of 16384 bits */
    size_t size = sizeof signature;
    EVP_MD_CTX *ctx = must(EVP_MD_CTX_new());
    bool ok = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, self->key) == 1 &&
              EVP_DigestSign(ctx, signature, &size, (const unsigned char *)signed_text, len) == 1;
    EVP_MD_CTX_free(ctx);
    if (ok)
        append_base64url(to, signature, size);
    return ok;
}

/* RFC 7523; the header has a kid where the file has one. */
static cm_status_t append_assertion(const cm_google_key_t *self, const char *scope, int64_t now_s,
                                    cm_buffer_t *form, cm_error_t *err)
{
    cm_buffer_append(form, ASSERTION_FORM, strlen(ASSERTION_FORM));
    size_t start = form->len;
    append_json(form,
                json_pack("{s:s, s:s, s:s*}", "alg", "RS256", "typ", "JWT", "kid", self->key_id));
    cm_buffer_append(form, ".", 1);
    append_json(form, json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", self->name, "scope", scope,
                                "aud", self->token_uri, "iat", (json_int_t)now_s, "exp",
                                (json_int_t)(now_s + ASSERTION_LIFE_S)));
    CM_CLEANUP(cm_free) char *text = must(strndup(form->data + start, form->len - start));
    cm_buffer_append(form, ".", 1);
    if (append_signature(self, form, text, strlen(text)))
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "credentials-file", "the private key cannot sign");
}

static void append_field(cm_buffer_t *form, const char *name, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";
    cm_buffer_append(form, name, strlen(name));
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        char escaped[] = {'%', digits[c >> 4], digits[c & 15]};
        if (isalnum(c) || strchr("-._~", c))
            cm_buffer_append(form, value, 1);
        else
            cm_buffer_append(form, escaped, sizeof escaped);
    }
}

cm_status_t cm_google_key_form(const cm_google_key_t *self, const char *scope, int64_t now_s,
                               cm_buffer_t *form, cm_error_t *err)
{
    if (self->key) {
        cm_buffer_reserve(form, 8192 + strlen(self->name) * 8 + strlen(self->token_uri) * 8);
        return append_assertion(self, scope, now_s, form, err);
    }
    cm_buffer_reserve(form, 128 + 3 * (strlen(self->client_id) + strlen(self->client_secret) +
                                       strlen(self->refresh_token)));
    append_field(form, "grant_type=", "refresh_token");
    append_field(form, "&client_id=", self->client_id);
    append_field(form, "&client_secret=", self->client_secret);
    append_field(form, "&refresh_token=", self->refresh_token);
    return CM_OK;
}

/* ---- its answer ------------------------------------------------------------------------------ */

/* It becomes a header line, so nothing else may be in it. */
static bool is_token(const char *text)
{
    size_t len = 0;
    while (isgraph((unsigned char)text[len]))
        len++;
    return text[len] == '\0' && len > 0 && len <= TOKEN_MAX;
}

cm_status_t cm_google_token_parse(cm_str_t json, char **ret_token, int64_t *ret_life_ms,
                                  cm_error_t *err)
{
    int line;
    CM_CLEANUP(forget) json_t *object = load(json, &line);
    const char *token = text_of(object, "access_token"), *type = text_of(object, "token_type");
    double life_s = json_number_value(json_object_get(object, "expires_in"));
    const char *lacks = !object                                   ? "a JSON object"
                        : !token || !is_token(token)              ? "an access_token"
                        : !(life_s > 0 && life_s <= 366 * 86400)  ? "a sensible expires_in"
                        : type && strcasecmp(type, "Bearer") != 0 ? "token_type Bearer"
                                                                  : NULL;
    if (lacks)
        return cm_error_set(err, CM_UNAVAILABLE, "token-answer", "the answer is no token: no %s",
                            lacks);
    *ret_token = must(strdup(token));
    *ret_life_ms = (int64_t)(life_s * 1000);
    return CM_OK;
}

/* What may be told of words that came from outside: printable ASCII, not too much of it. */
static void copy_words(char *to, size_t size, const char *from)
{
    size_t len = 0;
    for (; *from && len + 1 < size; from++)
        to[len++] = isprint((unsigned char)*from) ? *from : ' ';
    to[len] = '\0';
}

static const char *hint_of(const cm_google_key_t *self, const char *word, int http)
{
    if (!self)
        return http == 404 ? "; is a service account attached to this machine?" : "";
    if (strcmp(word, "invalid_grant") != 0)
        return "";
    return self->key ? "; is the clock of this machine right, and does the key still exist?"
                     : "; the login has expired or was revoked: log in again";
}

cm_status_t cm_google_token_refusal(const cm_google_key_t *self, const cm_http_answer_t *answer,
                                    cm_error_t *err)
{
    *err = answer->error;
    if (answer->status == CM_UNAVAILABLE)
        return err->status;
    if (answer->http < 400 || answer->curl) {
        err->status = CM_MISCONFIGURED; /* a redirect, TLS, or something else that answers */
        return err->status;
    }
    int line;
    char word[CM_ERROR_CODE_MAX], words[96];
    CM_CLEANUP(forget) json_t *object = load(answer->body, &line);
    const char *error = text_of(object, "error"), *text = text_of(object, "error_description");
    copy_words(word, sizeof word, error ? error : answer->error.code);
    copy_words(words, sizeof words, text ? text : "without an explanation");
    return cm_error_set(err, CM_MISCONFIGURED, word, "%s: %s%s", word, words,
                        hint_of(self, word, answer->http));
}
