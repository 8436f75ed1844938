// SPDX-License-Identifier: Apache-2.0
// Copies and sums of the rows of matrices, f32 and bf16 in any combination, on whichever device both lie; the sum is
// formed in fp32. Other types can be copied to tensors of the same type. Rows may have a stride.
// Throws Error{internal} when rows or columns differ, or for tensors of different devices.
#pragma once

#include <span>

#include "kernels/tensor.h"

namespace farsight {

// to = from
void copy_rows(const Tensor& from, const Tensor& to);
// to += from
void add_rows(const Tensor& from, const Tensor& to);
// Every element of a contiguous f32 or bf16 tensor = value.
void fill(const Tensor& to, float value);
// A host tensor with a copy of these values, moved to the device of this thread: what operations are told by the host.
Tensor device_copy(std::span<const int32_t> values);
Tensor device_copy(std::span<const int64_t> values);
Tensor device_copy(std::span<const float> values);
Tensor device_copy(std::span<const double> values);

}  // namespace farsight
