// SPDX-License-Identifier: Apache-2.0
#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "data/pretoken_cache.h"
#include "data/pretokenizer.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kShort = 64;  // bytes; from here on a heap, so that a megabyte of spaces is not quadratic
constexpr uint32_t kUnranked = std::numeric_limits<uint32_t>::max();

// Rank of a pair of ids: open addressing, half full.
class RankTable {
 public:
  explicit RankTable(const std::vector<std::pair<uint32_t, uint32_t>>& merges) {
    size_t size = 16;
    while (size < 2 * merges.size()) size *= 2;
    slots_.resize(size);
    for (uint32_t rank = 0; rank < merges.size(); ++rank) add(merges[rank], rank);
  }

  uint32_t find(uint32_t left, uint32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t at = start(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].rank;
      if (slots_[at].key == kFree) return kUnranked;
    }
  }

 private:
  static constexpr uint64_t kFree = std::numeric_limits<uint64_t>::max();
  struct Slot {
    uint64_t key = kFree;
    uint32_t rank = 0;
  };
  static uint64_t key_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }
  size_t start(uint64_t key) const {
    const uint64_t mixed = key * 0x9E3779B97F4A7C15;
    return (mixed ^ mixed >> 32) & (slots_.size() - 1);
  }
  void add(const std::pair<uint32_t, uint32_t>& pair, uint32_t rank) {
    const uint64_t key = key_of(pair.first, pair.second);
    size_t at = start(key);
    while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    if (slots_[at].key == kFree) slots_[at] = {key, rank};
  }

  std::vector<Slot> slots_;
};

// What all clones share.
struct BpeModel {
  explicit BpeModel(BpeVocabulary v) : vocabulary(std::move(v)), ranks(vocabulary.merges) {}
  BpeVocabulary vocabulary;
  RankTable ranks;
  TokenizerInfo info;
};

// Merges in place: repeatedly the lowest-ranked pair, all its occurrences from the left. `ranks` is scratch.
void merge_short(const BpeModel& model, std::vector<uint32_t>& ids, std::vector<uint32_t>& ranks) {
  ranks.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks.push_back(model.ranks.find(ids[i], ids[i + 1]));
  while (!ranks.empty()) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == kUnranked) return;
    // The first occurrence: the next round finds the following one, since new pairs have higher ranks.
    const auto at = static_cast<size_t>(lowest - ranks.begin());
    ids[at] = model.vocabulary.products[*lowest];
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks.erase(lowest);
    if (at > 0) ranks[at - 1] = model.ranks.find(ids[at - 1], ids[at]);
    if (at < ranks.size()) ranks[at] = model.ranks.find(ids[at], ids[at + 1]);
  }
}

// The same with a heap of candidate pairs over a linked list of symbols.
class LongMerger {
 public:
  LongMerger(const BpeModel& model, std::vector<uint32_t>& ids) : model_(model), ids_(ids), links_(ids.size()) {
    for (size_t i = 0; i < ids.size(); ++i) {
      links_[i] = {.previous = static_cast<int64_t>(i) - 1, .next = static_cast<int64_t>(i) + 1};
    }
    for (int64_t i = 0; i + 1 < size(); ++i) propose(i);
  }

  void run() {
    while (!heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      if (current(best)) merge(best);
    }
    size_t kept = 0;
    for (int64_t i = 0; i < size(); i = links_[static_cast<size_t>(i)].next) ids_[kept++] = id(i);
    ids_.resize(kept);
  }

 private:
  static constexpr uint32_t kDead = kUnranked;
  struct Link {
    int64_t previous, next;
  };
  struct Candidate {
    uint32_t rank;
    int64_t at;
    uint32_t left, right;
    bool operator<(const Candidate& other) const {  // lowest rank, then leftmost, on top
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  int64_t size() const { return static_cast<int64_t>(links_.size()); }
  uint32_t& id(int64_t i) { return ids_[static_cast<size_t>(i)]; }
  Link& link(int64_t i) { return links_[static_cast<size_t>(i)]; }

  void propose(int64_t left) {
    const int64_t right = link(left).next;
    if (right >= size()) return;
    const uint32_t rank = model_.ranks.find(id(left), id(right));
    if (rank != kUnranked) heap_.push({rank, left, id(left), id(right)});
  }

  bool current(const Candidate& c) {
    return id(c.at) == c.left && link(c.at).next < size() && id(link(c.at).next) == c.right;
  }

  void merge(const Candidate& c) {
    const int64_t right = link(c.at).next;
    id(c.at) = model_.vocabulary.products[c.rank];
    id(right) = kDead;
    link(c.at).next = link(right).next;
    if (link(right).next < size()) link(link(right).next).previous = c.at;
    if (link(c.at).previous >= 0) propose(link(c.at).previous);
    propose(c.at);
  }

  const BpeModel& model_;
  std::vector<uint32_t>& ids_;
  std::vector<Link> links_;
  std::priority_queue<Candidate> heap_;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(std::shared_ptr<const BpeModel> model) : model_(std::move(model)) {}

  void encode(std::string_view text, std::vector<uint32_t>& ids) override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = pretoken_end(text, at);
      encode_piece(text.substr(at, end - at), ids);
      at = end;
    }
  }

  void decode(uint32_t id, std::string& bytes) const override {
    const auto& tokens = model_->vocabulary.tokens;
    if (id >= tokens.size()) fail(ErrorKind::data, "token id {} is outside the vocabulary of {}", id, tokens.size());
    bytes += tokens[id];
  }

  std::unique_ptr<Tokenizer> clone() const override { return std::make_unique<BpeTokenizer>(model_); }
  const TokenizerInfo& info() const override { return model_->info; }
  size_t safe_prefix(std::string_view text) const override { return last_certain_cut(text); }

 private:
  void encode_piece(std::string_view piece, std::vector<uint32_t>& ids) {
    if (piece.size() >= kShort) {
      spell(piece);
      LongMerger(*model_, symbols_).run();
      ids.insert(ids.end(), symbols_.begin(), symbols_.end());
      return;
    }
    const uint64_t hash = PretokenCache::hash_of(piece);
    std::span<const uint32_t> known = cache_.find(piece, hash);
    if (known.empty()) {
      spell(piece);
      merge_short(*model_, symbols_, ranks_);
      cache_.add(piece, hash, symbols_);
      known = symbols_;
    }
    ids.insert(ids.end(), known.begin(), known.end());
  }

  void spell(std::string_view piece) {
    symbols_.clear();
    for (const char byte : piece) symbols_.push_back(model_->vocabulary.byte_ids[static_cast<uint8_t>(byte)]);
  }

  std::shared_ptr<const BpeModel> model_;
  PretokenCache cache_;
  std::vector<uint32_t> symbols_, ranks_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeVocabulary vocabulary) {
  auto model = std::make_shared<BpeModel>(std::move(vocabulary));
  model->info = {.type = "bpe",
                 .vocab_size = static_cast<int64_t>(model->vocabulary.tokens.size()),
                 .bos_id = -1,
                 .eos_id = model->vocabulary.end_of_text(),
                 .pad_id = -1,
                 .unk_id = -1,
                 .pretokenizer = pretokenizer_name(),
                 .fingerprint = "",
                 .json = to_tokenizer_json(model->vocabulary)};
  BpeTokenizer fresh(model);
  model->info.fingerprint = tokenizer_fingerprint(fresh);
  return std::make_unique<BpeTokenizer>(std::move(model));
}

}  // namespace farsight
