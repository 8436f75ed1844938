// SPDX-License-Identifier: Apache-2.0
// Collects what is wrong with the input, so that a user learns of all of it in one run: every kind is counted, the
// first five of a kind are listed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace farsight {

class Problems {
 public:
  // `kind` groups ("invalid UTF-8"); `message` says where and what.
  void add(const std::string& kind, std::string message);
  // Takes what another has collected; its kinds follow.
  void merge(Problems&& other);
  bool any() const { return !kinds_.empty(); }
  // Throws Error{data} with everything collected, if anything was.
  void throw_if_any() const;

 private:
  struct Kind {
    std::string name;
    int64_t count = 0;
    std::vector<std::string> listed;
  };
  std::vector<Kind> kinds_;
};

}  // namespace farsight
