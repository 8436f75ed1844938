// SPDX-License-Identifier: Apache-2.0
// The best loss on the validation split so far, and how long ago it was: what early stopping decides by. It is fed with
// losses that are equal on every rank, so all ranks decide alike; it goes into checkpoints and comes back from them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace farsight {

class BestLoss {
 public:
  // True when this is the best so far. A loss that is not finite never is.
  bool add(double loss, int64_t step);
  bool any() const { return step_ >= 0; }
  double loss() const { return loss_; }
  int64_t step() const { return step_; }
  int64_t worse() const { return worse_; }  // evaluations in a row since then
  // patience 0: never.
  bool exhausted(int64_t patience) const { return patience > 0 && worse_ >= patience; }

  // CheckpointState::loss_statistics.
  void save(std::map<std::string, double>& statistics) const;
  void load(const std::map<std::string, double>& statistics);

 private:
  double loss_ = 0.0;
  int64_t step_ = -1;
  int64_t worse_ = 0;
};

}  // namespace farsight
