/* frame - what the codecs of this folder share: packing into a buffer, and reading packed bytes.
 *
 * Private to proto/. Packing is msgpack-c's. Reading is a cursor of our own instead of
 * msgpack_unpack(): that one reserves memory from declared counts before it has seen an element,
 * builds an object for each value (110 to 180 ns a delivery, against 50 to 60), and cannot say
 * where a frame went wrong. The cursor allocates nothing, never reads outside [bytes, bytes + len),
 * and knows only what our frames hold: unsigned and signed integers, bin and arrays.
 */
#ifndef CM_PROTO_FRAME_H
#define CM_PROTO_FRAME_H
#include "runtime/broker/broker.h"
#include "runtime/buffer.h"
#include "runtime/status.h"
#include "runtime/str.h"

#include <msgpack/pack.h>
#include <stdbool.h>

/* ---- packing ------------------------------------------------------------------------------- */

msgpack_packer cm_frame_packer(cm_buffer_t *out); /* appends; borrowed for the packer's life */
/* As bin; absent becomes empty. */
void cm_frame_pack_text(msgpack_packer *packer, cm_str_t text);
/* [name, value, ...] and body. */
void cm_frame_pack_message(msgpack_packer *packer, const cm_message_t *message);
/* The five bytes of an array header whose count is known only later. */
void cm_frame_put_array32(char *at, size_t count);

/* ---- reading ------------------------------------------------------------------------------- */

/* The first fault sticks: every later read yields 0, so that a frame is checked once, at its end. A
 * loop over elements must stop at a fault. */
typedef struct {
    const char *start, *at, *end;
    const char *fault; /* what was expected, NULL while all is well; at: where */
} cm_frame_reader_t;

cm_frame_reader_t cm_frame_reader(const void *bytes, size_t len);
/* Elements of the array that begins here. A count that the bytes left could not hold, at min_bytes
 * (at least 1) each, is a fault, so it is safe to allocate for. */
size_t cm_frame_array(cm_frame_reader_t *self, size_t min_bytes);
/* An array of exactly count elements. */
void cm_frame_array_of(cm_frame_reader_t *self, size_t count);
uint64_t cm_frame_u64(cm_frame_reader_t *self, uint64_t max);
int64_t cm_frame_i64(cm_frame_reader_t *self, int64_t min, int64_t max);
cm_str_t cm_frame_text(cm_frame_reader_t *self); /* points into the frame; empty, never absent */
/* What cm_frame_pack_message() packs; the attributes are in the arena. */
cm_message_t cm_frame_message(cm_frame_reader_t *self, cm_arena_t *arena);
/* Tell a fault found by the caller: expected is a literal, "a subscription". */
void cm_frame_fail(cm_frame_reader_t *self, const char *expected);
/* CM_OK when nothing failed and every byte was read, else CM_PERMANENT / "malformed". */
cm_status_t cm_frame_end(cm_frame_reader_t *self, const char *what, cm_error_t *err);
#endif
