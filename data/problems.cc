// SPDX-License-Identifier: Apache-2.0
#include "data/problems.h"

#include <algorithm>
#include <iterator>

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kListed = 5;

}  // namespace

void Problems::add(const std::string& kind, std::string message) {
  auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& k) { return k.name == kind; });
  if (found == kinds_.end()) found = kinds_.insert(kinds_.end(), Kind{.name = kind, .count = 0, .listed = {}});
  ++found->count;
  if (found->listed.size() < kListed) found->listed.push_back(std::move(message));
}

void Problems::merge(Problems&& other) {
  kinds_.insert(kinds_.end(), std::make_move_iterator(other.kinds_.begin()),
                std::make_move_iterator(other.kinds_.end()));
  other.kinds_.clear();
}

void Problems::throw_if_any() const {
  if (kinds_.empty()) return;
  std::string text;
  for (const Kind& kind : kinds_) {
    for (const std::string& message : kind.listed) text += fmt::format("{}{}", text.empty() ? "" : "\n", message);
    const auto more = kind.count - static_cast<int64_t>(kind.listed.size());
    if (more > 0) text += fmt::format("\n... and {} more: {}", with_commas(more), kind.name);
  }
  throw Error(ErrorKind::data, text);
}

}  // namespace farsight
