// SPDX-License-Identifier: Apache-2.0
// Streams and events of the emulated device. Work waits in its stream until somebody needs it.
#pragma once

#include <functional>

#include "kernels/cuda/backend.h"
#include "tests/emulation/work_queue.h"

namespace farsight::cuda {
// As in the plugin: keeps the text for message() and returns the status.
int failed(int status, const char* what, const char* why);
}  // namespace farsight::cuda

namespace farsight::emulation {

// Adds work to the stream; status 0, or not with a text in message(). Errors of the work itself come out where
// somebody waits for it.
int enqueue(CudaStream stream, std::function<void()> work);

// Adds work that waits for other ranks.
int enqueue_shared(CudaStream stream, Work work);

// The functions of the table that concern memory, streams and events.
void name_runtime(CudaBackend& table);

}  // namespace farsight::emulation
