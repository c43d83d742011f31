/* SPDX-License-Identifier: Apache-2.0 */
/* The personality of the wrappers' frames; call.h says why. */
#include "preload/call.h"

#include <unwind.h>

_Unwind_Reason_Code ration_unwind(int version, _Unwind_Action actions, _Unwind_Exception_Class cls, struct _Unwind_Exception *ex,
                                  struct _Unwind_Context *context);

/* A frame of ours is being left by a cancellation, or by an exception that a handler threw. It has nothing else to clean up, so no landing pad. */
_Unwind_Reason_Code ration_unwind(int version, _Unwind_Action actions, _Unwind_Exception_Class cls, struct _Unwind_Exception *ex,
                                  struct _Unwind_Context *context) {
  (void)version, (void)cls, (void)ex, (void)context;
  if (actions & _UA_CLEANUP_PHASE) gate_exit();
  return _URC_CONTINUE_UNWIND;
}
