/* message - a copy of a message in one allocation, for those that must keep it until confirmed. */
#ifndef CM_RUNTIME_BROKER_MESSAGE_H
#define CM_RUNTIME_BROKER_MESSAGE_H
#include "runtime/broker/broker.h"

/* The copy is yours: free(). Out of memory aborts. */
cm_message_t *cm_message_copy(const cm_message_t *message);
#endif
