// SPDX-License-Identifier: Apache-2.0
// A plugin of another build: it has the entry, but not the table that this program asks for.
extern "C" __attribute__((visibility("default"))) const void* farsight_cuda_backend(unsigned) { return nullptr; }
