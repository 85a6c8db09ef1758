#include "runtime/frame.h"

#include <stdlib.h>

/* A frame changes hands without a copy, through a libzmq that ThreadSanitizer can not see into:
 * tell it that what was written before the sending is seen after the receiving. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define HAND_OVER(data) __tsan_release(data)
#define TAKE_OVER(data) __tsan_acquire(data)
#else
#define HAND_OVER(data) ((void)(data))
#define TAKE_OVER(data) ((void)(data))
#endif

static void release(void *data, void *hint)
{
    (void)hint;
    TAKE_OVER(data);
    free(data);
}

bool cm_frame_send(zsock_t *socket, cm_buffer_t *frame, int flags)
{
    zmq_msg_t message;
    if (zmq_msg_init_data(&message, frame->data, frame->len, release, NULL) != 0)
        abort();
    HAND_OVER(frame->data);
    *frame = (cm_buffer_t){0};
    if (zmq_msg_send(&message, zsock_resolve(socket), flags) >= 0)
        return true;
    zmq_msg_close(&message);
    return false;
}

bool cm_frame_receive(zsock_t *socket, zmq_msg_t *frame, int flags)
{
    zmq_msg_init(frame);
    if (zmq_msg_recv(frame, zsock_resolve(socket), flags) < 0) {
        zmq_msg_close(frame);
        return false;
    }
    TAKE_OVER(zmq_msg_data(frame));
    while (zmq_msg_more(frame)) {
        zmq_msg_t rest;
        zmq_msg_init(&rest);
        int size = zmq_msg_recv(&rest, zsock_resolve(socket), 0);
        bool more = size >= 0 && zmq_msg_more(&rest);
        zmq_msg_close(&rest);
        if (!more)
            break;
    }
    return true;
}
