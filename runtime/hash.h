/* hash - uthash with a hash function that clang's -Wimplicit-fallthrough accepts. Include this, not
 * uthash.h. Out of memory aborts (uthash's own default exits without a trace).
 */
#ifndef CM_RUNTIME_HASH_H
#define CM_RUNTIME_HASH_H
#include <stdlib.h>

#define HASH_FUNCTION(key, len, value) HASH_FNV(key, len, value)
#define uthash_fatal(message)          abort()
#include <uthash.h>
#endif
