// SPDX-License-Identifier: Apache-2.0
// The entry of the emulated plugin: the kernels of kernels/*_cuda.cu on a device made of this CPU.
#include "kernels/cuda/operations_cuda.h"
#include "tests/emulation/streams.h"

extern "C" __attribute__((visibility("default"))) const farsight::CudaBackend* farsight_cuda_backend(uint32_t abi) {
  using namespace farsight;
  if (abi != kCudaAbi) return nullptr;
  static const CudaBackend table = [] {
    CudaBackend t{};
    t.abi = kCudaAbi;
    t.bytes = sizeof(CudaBackend);
    emulation::name_runtime(t);
    cuda::name_operations(t);
    cuda::name_collectives(t);
    return t;
  }();
  return &table;
}
