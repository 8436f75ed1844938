// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer_range.h"

#include <algorithm>

#include "kernels/error.h"

namespace farsight {

void check_optimizer_ranges(const char* op, std::span<const OptimizerRange> ranges, size_t elements) {
  for (const auto& range : ranges) {
    if (range.begin < 0 || range.count < 0 || range.begin + range.count > static_cast<int64_t>(elements)) {
      fail(ErrorKind::internal, "{}: range [{}, {}) does not lie within {} elements", op, range.begin,
           range.begin + range.count, elements);
    }
  }
}

std::vector<OptimizerRange> optimizer_pieces(std::span<const OptimizerRange> ranges) {
  constexpr int64_t kPiece = 65536;
  std::vector<OptimizerRange> pieces;
  for (const auto& range : ranges) {
    for (int64_t done = 0; done < range.count; done += kPiece) {
      pieces.push_back({range.begin + done, std::min(kPiece, range.count - done), range.rate, range.decay});
    }
  }
  return pieces;
}

}  // namespace farsight
