// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/load_plan.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/shard_format.h"

namespace farsight {
namespace {

struct Box {
  Shape offset, shape;
};

int64_t volume(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::optional<Box> intersect(const Shape& offset_a, const Shape& shape_a, const Shape& offset_b, const Shape& shape_b) {
  Box result{offset_a, shape_a};
  for (size_t i = 0; i < shape_a.size(); ++i) {
    const int64_t begin = std::max(offset_a[i], offset_b[i]);
    const int64_t end = std::min(offset_a[i] + shape_a[i], offset_b[i] + shape_b[i]);
    if (begin >= end) return std::nullopt;
    result.offset[i] = begin;
    result.shape[i] = end - begin;
  }
  return result;
}

// What is left of a box without one that lies inside it: at most two slabs per dimension.
std::vector<Box> subtract(const Box& whole, const Box& part) {
  std::vector<Box> rest;
  Box core = whole;
  for (size_t i = 0; i < whole.shape.size(); ++i) {
    Box below = core, above = core;
    below.shape[i] = part.offset[i] - core.offset[i];
    above.offset[i] = part.offset[i] + part.shape[i];
    above.shape[i] = core.offset[i] + core.shape[i] - above.offset[i];
    if (below.shape[i] > 0) rest.push_back(below);
    if (above.shape[i] > 0) rest.push_back(above);
    core.offset[i] = part.offset[i];
    core.shape[i] = part.shape[i];
  }
  return rest;
}

// Only for the message: the first stretch of the wanted slice that no piece holds.
Box first_gap(const SliceBox& wanted, const std::vector<PieceRead>& reads) {
  std::vector<Box> rest{{wanted.offset, wanted.shape}};
  for (const PieceRead& read : reads) {
    std::vector<Box> next;
    for (const Box& box : rest) {
      const auto common = intersect(box.offset, box.shape, read.offset, read.shape);
      const std::vector<Box> left = common ? subtract(box, *common) : std::vector<Box>{box};
      next.insert(next.end(), left.begin(), left.end());
    }
    rest = std::move(next);
  }
  return rest.empty() ? Box{} : rest.front();
}

std::string describe(const Shape& offset, const Shape& shape) {
  return fmt::format("{} at {}", to_string(shape), to_string(offset));
}

// Sorted by the first coordinate, only neighbours whose rows meet need to be compared.
void check_disjoint(const std::string& name, std::vector<PieceRead>& reads) {
  const auto row = [](const PieceRead& read) { return read.offset.empty() ? 0 : read.offset[0]; };
  const auto rows = [](const PieceRead& read) { return read.shape.empty() ? 1 : read.shape[0]; };
  std::stable_sort(reads.begin(), reads.end(), [&](const PieceRead& a, const PieceRead& b) { return row(a) < row(b); });
  for (size_t i = 0; i < reads.size(); ++i) {
    for (size_t j = i + 1; j < reads.size() && row(reads[j]) < row(reads[i]) + rows(reads[i]); ++j) {
      if (!intersect(reads[i].offset, reads[i].shape, reads[j].offset, reads[j].shape)) continue;
      fail(ErrorKind::data, "tensor '{}': stored slices {} (file {}) and {} (file {}) overlap", name,
           describe(reads[i].piece.offset, reads[i].piece.shape), reads[i].piece.file,
           describe(reads[j].piece.offset, reads[j].piece.shape), reads[j].piece.file);
    }
  }
}

std::vector<PieceRead> cover(const IndexEntry& entry, const SliceBox& wanted) {
  std::vector<PieceRead> reads;
  for (const IndexPiece& piece : entry.pieces) {
    const auto common = intersect(wanted.offset, wanted.shape, piece.offset, piece.shape);
    if (common) reads.push_back({piece, common->offset, common->shape});
  }
  check_disjoint(wanted.name, reads);
  int64_t covered = 0;  // of disjoint parts: cannot overflow
  for (const PieceRead& read : reads) covered += volume(read.shape);
  if (covered != volume(wanted.shape)) {
    const Box gap = first_gap(wanted, reads);
    fail(ErrorKind::data, "tensor '{}', slice {}: {} of {} elements are stored; missing {}", wanted.name,
         describe(wanted.offset, wanted.shape), covered, volume(wanted.shape), describe(gap.offset, gap.shape));
  }
  return reads;
}

void check_wanted(const SliceBox& wanted) {
  try {
    check_box(wanted.name, to_string(wanted.dtype), wanted.global, wanted.offset, wanted.shape, "load");
  } catch (const Error& error) {
    throw Error(ErrorKind::internal, error.what());
  }
}

Shape byte_strides(const Shape& shape, int64_t element_bytes) {
  Shape strides(shape.size());
  int64_t stride = element_bytes;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

int64_t byte_at(const Shape& position, const Shape& origin, const Shape& strides) {
  int64_t at = 0;
  for (size_t i = 0; i < position.size(); ++i) at += (position[i] - origin[i]) * strides[i];
  return at;
}

// The first dimension of the part's longest contiguous tail: all later dimensions are complete in both arrays.
size_t run_dimension(const BoxView& part, const BoxView& source, const BoxView& target) {
  size_t dimension = part.shape.size();
  while (dimension > 0) {
    --dimension;
    const int64_t extent = part.shape[dimension];
    if (extent != source.shape[dimension] || extent != target.shape[dimension]) break;
  }
  return dimension;
}

}  // namespace

std::vector<PieceRead> plan_read(const Manifest& manifest, const SliceBox& wanted) {
  check_wanted(wanted);
  const auto found = manifest.index.find(wanted.name);
  if (found == manifest.index.end()) {
    fail(ErrorKind::data, "tensor '{}', slice {}: not in the checkpoint", wanted.name,
         describe(wanted.offset, wanted.shape));
  }
  const IndexEntry& entry = found->second;
  if (entry.global != wanted.global) {
    fail(ErrorKind::data, "tensor '{}': stored with shape {}, wanted {}; was it saved by another model?", wanted.name,
         to_string(entry.global), to_string(wanted.global));
  }
  if (entry.dtype != to_string(wanted.dtype)) {
    fail(ErrorKind::data, "tensor '{}': stored as {}, wanted as {}; set the precision it was trained with", wanted.name,
         entry.dtype, to_string(wanted.dtype));
  }
  return cover(entry, wanted);
}

void check_complete(const std::string& name, const IndexEntry& entry) {
  // The dtype plays no part in coverage.
  cover(entry, {name, DType::f32, entry.global, Shape(entry.global.size(), 0), entry.global});
}

void for_each_run(const BoxView& part, const BoxView& source, const BoxView& target, int64_t element_bytes,
                  const RunSink& run) {
  if (volume(part.shape) == 0) return;
  const Shape source_strides = byte_strides(source.shape, element_bytes);
  const Shape target_strides = byte_strides(target.shape, element_bytes);
  const size_t last = run_dimension(part, source, target);
  const int64_t bytes = part.shape.empty() ? element_bytes : part.shape[last] * source_strides[last];
  Shape position = part.offset;
  while (true) {
    run(byte_at(position, source.offset, source_strides), byte_at(position, target.offset, target_strides), bytes);
    size_t i = last;
    while (i > 0 && ++position[i - 1] == part.offset[i - 1] + part.shape[i - 1]) {
      position[i - 1] = part.offset[i - 1];
      --i;
    }
    if (i == 0) return;
  }
}

}  // namespace farsight
