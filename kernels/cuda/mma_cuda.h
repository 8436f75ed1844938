// SPDX-License-Identifier: Apache-2.0
// Tensor-core instructions of a warp: m16n8k16 products of bf16 with fp32 sums, matrix loads from shared memory, and
// asynchronous copies to it. Lane L has group g = L / 4 and place t = L % 4. A 16 x 8 result: elements 0, 1 are row g,
// columns 2t, 2t + 1; elements 2, 3 the same of row g + 8. Source: PTX ISA, "Matrix multiply-accumulate operation".
#pragma once

#include <cstdint>

#include "kernels/cuda/dialect_cuda.h"

#ifndef FARSIGHT_CUDA_DIALECT

namespace farsight::cuda {

// d += a b^T: a 16 x 16 row by row, b 8 x 16 row by row.
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices; lane L gives the address of row L % 8 of matrix L / 8. Of matrix i a lane gets row g, columns 2t
// and 2t + 1 in r[i]; transposed: column g, rows 2t and 2t + 1.
__device__ inline void load_matrices(uint32_t (&r)[4], const bf16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const bf16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// Two fp32 numbers as a pair of bf16, the first one in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// 16 bytes to shared memory, zeros unless `valid`. Both addresses are multiples of 16.
__device__ inline void copy_async(void* to_shared, const void* from, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of the committed groups are under way.
template <int kPending>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace farsight::cuda

#endif
