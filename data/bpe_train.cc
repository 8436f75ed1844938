// SPDX-License-Identifier: Apache-2.0
#include "data/bpe_train.h"

#include <algorithm>
#include <queue>

#include "data/pretokenizer.h"

namespace farsight {

namespace {

constexpr int64_t kFewestOccurrences = 2;

uint64_t key_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

struct Word {
  std::vector<uint32_t> ids;
  int64_t count;
};

struct Pair {
  int64_t count = 0;
  std::vector<uint32_t> words;  // where it occurs or has occurred, rising, perhaps repeated
};

// An entry of the heap may be out of date: it counts only while it equals the present count of the pair.
struct Candidate {
  int64_t count;
  uint64_t key;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : key > other.key;  // smaller left id, then right id, on top
  }
};

class Trainer {
 public:
  explicit Trainer(const PretokenCounts& counts) {
    for (const auto& [text, count] : counts) {
      Word word{.ids = {}, .count = count};
      for (const char byte : text) word.ids.push_back(static_cast<uint8_t>(byte));
      words_.push_back(std::move(word));
    }
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      for (size_t i = 0; i + 1 < word.ids.size(); ++i) add(word.ids[i], word.ids[i + 1], word.count, w);
    }
    for (const auto& [key, pair] : pairs_) heap_.push({pair.count, key});
  }

  std::vector<std::pair<uint32_t, uint32_t>> run(int64_t merges) {
    std::vector<std::pair<uint32_t, uint32_t>> result;
    while (static_cast<int64_t>(result.size()) < merges && !heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      const auto found = pairs_.find(best.key);
      if (found == pairs_.end() || found->second.count != best.count) continue;
      if (best.count < kFewestOccurrences) break;
      result.emplace_back(static_cast<uint32_t>(best.key >> 32), static_cast<uint32_t>(best.key));
      merge(best.key, static_cast<uint32_t>(256 + result.size() - 1));
    }
    return result;
  }

 private:
  void add(uint32_t left, uint32_t right, int64_t count, uint32_t word) {
    Pair& pair = pairs_[key_of(left, right)];
    pair.count += count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
  }

  void merge(uint64_t key, uint32_t product) {
    const std::vector<uint32_t> words = std::move(pairs_[key].words);
    for (const uint32_t w : words) rewrite(w, static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key), product);
    pairs_.erase(key);
    changed_.erase(key);
    for (const auto& [other, unused] : changed_) {
      const auto found = pairs_.find(other);
      if (found->second.count > 0) {
        heap_.push({found->second.count, other});
      } else {
        pairs_.erase(found);
      }
    }
    changed_.clear();
  }

  // Takes the word's pairs out and puts those of the merged word in: simple, and words are short.
  void rewrite(uint32_t w, uint32_t left, uint32_t right, uint32_t product) {
    Word& word = words_[w];
    std::vector<uint32_t> merged;
    for (size_t i = 0; i < word.ids.size(); ++i) {
      const bool here = word.ids[i] == left && i + 1 < word.ids.size() && word.ids[i + 1] == right;
      merged.push_back(here ? product : word.ids[i]);
      if (here) ++i;
    }
    if (merged.size() == word.ids.size()) return;  // an old entry
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      const uint64_t key = key_of(word.ids[i], word.ids[i + 1]);
      pairs_[key].count -= word.count;
      changed_[key] = true;
    }
    word.ids = std::move(merged);
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      add(word.ids[i], word.ids[i + 1], word.count, w);
      changed_[key_of(word.ids[i], word.ids[i + 1])] = true;
    }
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::unordered_map<uint64_t, bool> changed_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

void count_pretokens(std::string_view text, PretokenCounts& counts) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = pretoken_end(text, at);
    const std::string_view piece = text.substr(at, end - at);
    const auto found = counts.find(piece);
    if (found != counts.end()) {
      ++found->second;
    } else {
      counts.emplace(piece, 1);
    }
    at = end;
  }
}

void add_counts(const PretokenCounts& from, PretokenCounts& to) {
  for (const auto& [text, count] : from) to[text] += count;
}

std::vector<std::pair<uint32_t, uint32_t>> train_bpe(const PretokenCounts& counts, int64_t merges) {
  return Trainer(counts).run(merges);
}

}  // namespace farsight
