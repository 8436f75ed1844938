// SPDX-License-Identifier: Apache-2.0
// SHA-256 of a byte stream.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace farsight {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(const void* data, size_t bytes);
  std::string hex();  // 64 digits; ends the stream

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farsight
