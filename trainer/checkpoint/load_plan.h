// SPDX-License-Identifier: Apache-2.0
// Which stored pieces a wanted slice is made of, in any layout.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/tensor_slice.h"

namespace farsight {

// A part of one stored piece: [offset, offset + shape) in coordinates of the global tensor.
struct PieceRead {
  IndexPiece piece;
  Shape offset, shape;
};

// The intersections of the wanted slice with the index, exactly covering it: no gap, no overlap, same global shape,
// same dtype. Error{data} naming tensor, slice and gap otherwise.
std::vector<PieceRead> plan_read(const Manifest& manifest, const SliceBox& wanted);

// The same for a whole stored tensor.
void check_complete(const std::string& name, const IndexEntry& entry);

// Calls run(source byte, target byte, bytes) for every contiguous run of `part` that lies in a row-major array holding
// the box `source` and one holding the box `target`; source bytes ascend.
struct BoxView {
  const Shape& offset;
  const Shape& shape;
};
using RunSink = std::function<void(int64_t source_byte, int64_t target_byte, int64_t bytes)>;
void for_each_run(const BoxView& part, const BoxView& source, const BoxView& target, int64_t element_bytes,
                  const RunSink& run);

}  // namespace farsight
