// SPDX-License-Identifier: Apache-2.0
// A checkpoint knows logical tensors by global name, and hyper-rectangles of them. Nothing here depends on ranks, so
// any layout can load what any other layout saved.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace farsight {

// A hyper-rectangle [offset, offset + shape) of the logical tensor `name` of shape `global`. Rank 0 (a scalar) and
// empty extents are legal.
struct SliceBox {
  std::string name;
  DType dtype = DType::f32;
  Shape global, offset, shape;
};

// What a rank has to write; data is contiguous row-major, of the size of `shape`, in host memory or on the device of
// the thread that saves.
struct TensorSlice : SliceBox {
  const void* data = nullptr;
  Device device = Device::cpu;
};

// What a rank wants to have loaded; the host memory is the caller's.
struct TensorTarget : SliceBox {
  void* data = nullptr;
};

// The whole tensor as one slice or target; it must be contiguous and outlive its use.
TensorSlice whole_slice(std::string name, const Tensor& tensor);
TensorTarget whole_target(std::string name, const Tensor& tensor);

int64_t element_count(const Shape& shape);  // Error{internal} on overflow or a negative extent
int64_t byte_count(const SliceBox& box);

// The part that writer `writer` of `writers` has to write of slices that every rank holds alike (Replicate on every
// axis). The slices are cut at row boundaries of their first dimension longer than 1 so that all writers carry the
// same number of bytes within one row; the parts of all writers cover everything exactly once, and depend on nothing
// but the arguments. Slices without elements go to writer 0.
std::vector<TensorSlice> writer_share(std::span<const TensorSlice> replicated, int writer, int writers);

}  // namespace farsight
