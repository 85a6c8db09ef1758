/* frame - one large frame through a czmq socket without copying it. */
#ifndef CM_RUNTIME_FRAME_H
#define CM_RUNTIME_FRAME_H
#include "runtime/buffer.h"

#include <czmq.h>
#include <stdbool.h>

/* Send the bytes of frame; the socket takes them over and frame is empty afterwards, also when it
 * fails. flags: 0 or ZMQ_DONTWAIT. False: not sent. */
bool cm_frame_send(zsock_t *socket, cm_buffer_t *frame, int flags);
/* Receive one frame; false when there is none (flags ZMQ_DONTWAIT) or the context ended. Close
 * *frame with zmq_msg_close() when true. Further parts of the message are dropped. */
bool cm_frame_receive(zsock_t *socket, zmq_msg_t *frame, int flags);
#endif
