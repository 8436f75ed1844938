// SPDX-License-Identifier: Apache-2.0
// Which split a document belongs to: by a hash of its bytes (stable when documents are reordered or added), or by
// position in the whole text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace farsight {

enum class SplitBy : uint8_t { document, position };

// Fractions as exact decimals, cumulated: borders_[i] is the end of split i in units of 1e-9.
class SplitFractions {
 public:
  // "0.98/0.01/0.01" for train, valid, test; one or two numbers leave the last ones out, zero leaves one out.
  // Error{usage} unless they have at most 9 decimals and add up to 1.
  static SplitFractions parse(const std::string& text);

  size_t count() const { return borders_.size(); }
  const std::vector<std::string>& names() const { return names_; }
  int of_hash(uint64_t xxh3) const;                // hash modulo 2^32 against the fractions
  std::vector<int64_t> cuts(int64_t bytes) const;  // floor(fraction x bytes), without the last one
  // floor(fraction x count) of train, valid and test, where there are such.
  std::array<int64_t, 3> shares(int64_t count) const;
  const std::array<uint64_t, 3>& billionths() const { return billionths_; }  // of train, valid, test; 0: there is none

 private:
  std::array<uint64_t, 3> billionths_{};
  std::vector<uint64_t> borders_;
  std::vector<std::string> names_;
};

// Moves cuts back to the beginnings of UTF-8 characters while the text goes by.
class CutFinder {
 public:
  explicit CutFinder(std::vector<int64_t> cuts) : cuts_(std::move(cuts)) {}
  void feed(std::string_view text);
  const std::vector<int64_t>& cuts() const { return cuts_; }

 private:
  std::vector<int64_t> cuts_;
  size_t next_ = 0;
  int64_t offset_ = 0;
  std::string last_;  // the three bytes before offset_
};

}  // namespace farsight
