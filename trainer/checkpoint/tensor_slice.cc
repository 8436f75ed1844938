// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/tensor_slice.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

SliceBox whole_box(std::string name, const Tensor& tensor) {
  if (!tensor.contiguous()) fail(ErrorKind::internal, "checkpoint: tensor '{}' is not contiguous", name);
  return {std::move(name), tensor.dtype(), tensor.shape(), Shape(tensor.shape().size(), 0), tensor.shape()};
}

// The dimension along which a contiguous part can be cut: the first longer than 1.
size_t cut_dimension(const Shape& shape) {
  const auto found = std::find_if(shape.begin(), shape.end(), [](int64_t extent) { return extent > 1; });
  return static_cast<size_t>(found - shape.begin());
}

// First row of the writer whose share begins at byte `border`: the row border nearest to it.
int64_t row_at(int64_t border, int64_t begin, int64_t row_bytes, int64_t rows) {
  if (border <= begin) return 0;
  return std::min(rows, (border - begin + row_bytes / 2) / row_bytes);
}

TensorSlice rows_of(const TensorSlice& slice, size_t dimension, int64_t first, int64_t last, int64_t row_bytes) {
  TensorSlice part = slice;
  if (dimension < slice.shape.size()) {
    part.offset[dimension] += first;
    part.shape[dimension] = last - first;
  }
  part.data = static_cast<const std::byte*>(slice.data) + first * row_bytes;
  return part;
}

}  // namespace

TensorSlice whole_slice(std::string name, const Tensor& tensor) {
  return {whole_box(std::move(name), tensor), tensor.raw(), tensor.device()};
}

TensorTarget whole_target(std::string name, const Tensor& tensor) {
  return {whole_box(std::move(name), tensor), tensor.raw()};
}

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, extent, &count)) {
      fail(ErrorKind::internal, "checkpoint: shape {} is negative or too large", to_string(shape));
    }
  }
  return count;
}

int64_t byte_count(const SliceBox& box) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(element_count(box.shape), size_of(box.dtype), &bytes)) {
    fail(ErrorKind::internal, "checkpoint: tensor '{}' of shape {} is too large", box.name, to_string(box.shape));
  }
  return bytes;
}

std::vector<TensorSlice> writer_share(std::span<const TensorSlice> replicated, int writer, int writers) {
  int64_t total = 0;
  for (const TensorSlice& slice : replicated) total += byte_count(slice);
  const auto border = [&](int w) { return static_cast<int64_t>(static_cast<__int128>(total) * w / writers); };
  std::vector<TensorSlice> share;
  int64_t begin = 0;
  for (const TensorSlice& slice : replicated) {
    const int64_t bytes = byte_count(slice);
    if (bytes == 0) {
      if (writer == 0) share.push_back(slice);
      continue;
    }
    const size_t dimension = cut_dimension(slice.shape);
    const int64_t rows = dimension < slice.shape.size() ? slice.shape[dimension] : 1;
    const int64_t row_bytes = bytes / rows;
    const int64_t first = row_at(border(writer), begin, row_bytes, rows);
    const int64_t last = writer + 1 == writers ? rows : row_at(border(writer + 1), begin, row_bytes, rows);
    if (first < last) share.push_back(rows_of(slice, dimension, first, last, row_bytes));
    begin += bytes;
  }
  return share;
}

}  // namespace farsight
