// SPDX-License-Identifier: Apache-2.0
#include "trainer/best_loss.h"

#include <cmath>

namespace farsight {
namespace {

constexpr const char* kLoss = "valid_best";
constexpr const char* kStep = "valid_best_step";
constexpr const char* kWorse = "valid_worse_in_a_row";

}  // namespace

bool BestLoss::add(double loss, int64_t step) {
  if (std::isfinite(loss) && (!any() || loss < loss_)) {
    loss_ = loss;
    step_ = step;
    worse_ = 0;
    return true;
  }
  ++worse_;
  return false;
}

void BestLoss::save(std::map<std::string, double>& statistics) const {
  if (any()) statistics[kLoss] = loss_;
  statistics[kStep] = static_cast<double>(step_);
  statistics[kWorse] = static_cast<double>(worse_);
}

void BestLoss::load(const std::map<std::string, double>& statistics) {
  const auto number = [&](const char* name, double otherwise) {
    const auto found = statistics.find(name);
    return found == statistics.end() ? otherwise : found->second;
  };
  loss_ = number(kLoss, 0.0);
  step_ = static_cast<int64_t>(number(kStep, -1.0));
  worse_ = static_cast<int64_t>(number(kWorse, 0.0));
}

}  // namespace farsight
