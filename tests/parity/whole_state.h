// SPDX-License-Identifier: Apache-2.0
// The weights and optimizer moments that in-process ranks hold, brought together element by element: an account that
// shares no code with the slices of a checkpoint.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "trainer/layout_trainer.h"

namespace farsight {

class WholeState {
 public:
  // Puts in what this rank holds. Throws std::runtime_error naming tensor and element where another rank has put in
  // other bits. Called by every rank, in any order.
  void add(LayoutTrainer& trainer);
  // Empty, or the first tensor that is in only one of the two or differs in a bit.
  std::string difference(const WholeState& other) const;
  // Empty, or the first element that no rank holds.
  std::string gap() const;
  const std::map<std::string, std::vector<float>>& tensors() const { return tensors_; }

 private:
  struct Held;
  void put(const Held& held, const Parameter& p, int64_t first, int64_t count);

  std::mutex mutex_;
  std::map<std::string, std::vector<float>> tensors_;
  std::map<std::string, std::vector<bool>> known_;
};

}  // namespace farsight
