/* msgpack_check - look over a MessagePack value before a library is let at it.
 *
 * msgpack-c reserves memory from the counts a frame declares, so a frame of five bytes can ask for
 * gigabytes. This scan allocates nothing and accepts only a value whose every declared element and
 * byte is really there; what it accepts unpacks in memory proportional to its length.
 * Rule: reliability, section 5.3.
 */
#ifndef CM_RUNTIME_MSGPACK_CHECK_H
#define CM_RUNTIME_MSGPACK_CHECK_H
#include <stdbool.h>
#include <stddef.h>

enum {
    CM_MSGPACK_DEPTH = 16,     /* what every decoder of the project passes */
    CM_MSGPACK_DEPTH_MAX = 32, /* what msgpack-c can unpack */
};

/* Is there one complete, well-formed value at the start of bytes[len], with arrays and maps nested
 * no deeper than max_depth (0: scalars only; at most CM_MSGPACK_DEPTH_MAX)? True: *ret_used is the
 * length of the value; whether more bytes may follow is the caller's rule. ret_used may be NULL. */
bool cm_msgpack_check(const void *bytes, size_t len, size_t max_depth, size_t *ret_used);
#endif
