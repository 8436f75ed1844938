// SPDX-License-Identifier: Apache-2.0
#include "parallel/shared_collective.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/random.h"
#include "parallel/ordered_reduce.h"
#include "parallel/shared_operation.h"

namespace farsight {

namespace {

enum class Kind : uint64_t { all_reduce, reduce_scatter, all_gather };

struct Part {
  int64_t begin, count;  // elements of a buffer
};

uint64_t identity_of(Kind kind, ReduceOp op, size_t element_bytes, std::span<const int64_t> counts) {
  std::vector<uint64_t> fields{static_cast<uint64_t>(kind), static_cast<uint64_t>(op), element_bytes};
  for (const int64_t c : counts) fields.push_back(static_cast<uint64_t>(c));
  return hash64(fields);
}

int64_t steps_of(int64_t elements, int64_t step) { return (elements + step - 1) / step; }

std::vector<int64_t> begins_of(std::span<const int64_t> counts) {
  std::vector<int64_t> begins(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
  return begins;
}

template <typename T>
const T* as_elements(const std::byte* p) {
  return reinterpret_cast<const T*>(p);
}
template <typename T>
T* as_elements(std::byte* p) {
  return reinterpret_cast<T*>(p);
}

// A step covers a stretch of the buffer, cut into one part per rank; rank r works on the r-th.
template <typename T>
class SharedAllReduce final : public SharedOperation {
 public:
  SharedAllReduce(SharedArea& area, std::span<T> data, ReduceOp op)
      : SharedOperation(area, call(area, data, op)),
        data_(data),
        op_(op),
        in_(static_cast<size_t>(area.ranks())),
        out_(static_cast<size_t>(area.ranks())) {}

 private:
  static int64_t step_elements(const SharedArea& area) {
    return area.ranks() * area.part_bytes() / static_cast<int64_t>(sizeof(T));
  }
  static Call call(const SharedArea& area, std::span<T> data, ReduceOp op) {
    const auto count = static_cast<int64_t>(data.size());
    auto* bytes = reinterpret_cast<std::byte*>(data.data());
    return {steps_of(count, step_elements(area)), identity_of(Kind::all_reduce, op, sizeof(T), std::array{count}),
            bytes, bytes, /*collects=*/true};
  }
  Part part(int64_t step, int owner) const {
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t begin = step * step_elements(area());
    const int64_t count = std::min(step_elements(area()), static_cast<int64_t>(data_.size()) - begin);
    const int64_t share = ((count + area().ranks() - 1) / area().ranks() + kLine - 1) / kLine * kLine;
    const int64_t first = std::min(owner * share, count);
    return {begin + first, std::min(first + share, count) - first};
  }

  void contribute(int64_t step) override {
    const int me = area().rank();
    for (int hop = 1; hop < area().ranks(); ++hop) {
      const int owner = (me + hop) % area().ranks();
      const Part p = part(step, owner);
      copy(place(me, owner, step), reinterpret_cast<const std::byte*>(data_.data() + p.begin),
           p.count * static_cast<int64_t>(sizeof(T)));
    }
  }
  void work(int64_t step) override {
    const int me = area().rank();
    const Part p = part(step, me);
    for (int r = 0; r < area().ranks(); ++r) {
      const auto i = static_cast<size_t>(r);
      if (r == me) {
        out_[i] = data_.data() + p.begin;
      } else if (area().direct()) {
        out_[i] = as_elements<T>(area().counters(r).target) + p.begin;
      } else {
        out_[i] = as_elements<T>(place(r, me, step));
      }
      in_[i] = out_[i];
    }
    reduce_in_order<T>(in_, out_, p.count, op_, area().with_team());
  }
  void collect(int64_t step) override {
    const int me = area().rank();
    for (int hop = 1; hop < area().ranks(); ++hop) {
      const int owner = (me + hop) % area().ranks();
      const Part p = part(step, owner);
      copy(reinterpret_cast<std::byte*>(data_.data() + p.begin), place(me, owner, step),
           p.count * static_cast<int64_t>(sizeof(T)));
    }
  }

  std::span<T> data_;
  ReduceOp op_;
  std::vector<const T*> in_;
  std::vector<T*> out_;
};

// A step covers the next stretch of every rank's piece.
class SharedReduceScatter final : public SharedOperation {
 public:
  SharedReduceScatter(SharedArea& area, std::span<const float> data, std::span<float> mine,
                      std::span<const int64_t> counts, ReduceOp op)
      : SharedOperation(area, call(area, data, counts, op)),
        data_(data),
        mine_(mine),
        counts_(counts.begin(), counts.end()),
        begins_(begins_of(counts)),
        op_(op),
        in_(counts.size()) {}

 private:
  static int64_t step_elements(const SharedArea& area) {
    return area.part_bytes() / static_cast<int64_t>(sizeof(float));
  }
  static Call call(const SharedArea& area, std::span<const float> data, std::span<const int64_t> counts, ReduceOp op) {
    const int64_t longest = *std::max_element(counts.begin(), counts.end());
    return {steps_of(longest, step_elements(area)), identity_of(Kind::reduce_scatter, op, sizeof(float), counts),
            reinterpret_cast<const std::byte*>(data.data()), nullptr, /*collects=*/false};
  }
  Part part(int64_t step, int owner) const {
    const auto o = static_cast<size_t>(owner);
    const int64_t first = std::min(step * step_elements(area()), counts_[o]);
    return {begins_[o] + first, std::min(first + step_elements(area()), counts_[o]) - first};
  }

  void contribute(int64_t step) override {
    const int me = area().rank();
    for (int hop = 1; hop < area().ranks(); ++hop) {
      const int owner = (me + hop) % area().ranks();
      const Part p = part(step, owner);
      copy(place(me, owner, step), reinterpret_cast<const std::byte*>(data_.data() + p.begin),
           p.count * static_cast<int64_t>(sizeof(float)));
    }
  }
  void work(int64_t step) override {
    const int me = area().rank();
    const Part p = part(step, me);
    for (int r = 0; r < area().ranks(); ++r) {
      const float*& in = in_[static_cast<size_t>(r)];
      if (r == me) {
        in = data_.data() + p.begin;
      } else if (area().direct()) {
        in = as_elements<float>(area().counters(r).source) + p.begin;
      } else {
        in = as_elements<float>(static_cast<const std::byte*>(place(r, me, step)));
      }
    }
    float* const out[] = {mine_.data() + (p.begin - begins_[static_cast<size_t>(me)])};
    reduce_in_order<float>(in_, out, p.count, op_, area().with_team());
  }

  std::span<const float> data_;
  std::span<float> mine_;
  std::vector<int64_t> counts_, begins_;
  ReduceOp op_;
  std::vector<const float*> in_;
};

// A step covers the next stretch of every rank's piece; a slot holds the stretch of its owner, which all others read.
class SharedAllGather final : public SharedOperation {
 public:
  SharedAllGather(SharedArea& area, std::span<const std::byte> mine, std::span<std::byte> all,
                  std::span<const int64_t> counts)
      : SharedOperation(area, call(area, mine, counts)),
        mine_(mine),
        all_(all),
        counts_(counts.begin(), counts.end()),
        begins_(begins_of(counts)) {
    std::byte* own = all.data() + begins_[static_cast<size_t>(area.rank())];
    if (!mine.empty() && own != mine.data()) std::memmove(own, mine.data(), mine.size());
  }

 private:
  static Call call(const SharedArea& area, std::span<const std::byte> mine, std::span<const int64_t> counts) {
    const int64_t longest = *std::max_element(counts.begin(), counts.end());
    return {steps_of(longest, area.slot_bytes()), identity_of(Kind::all_gather, ReduceOp::sum, 1, counts), mine.data(),
            nullptr, /*collects=*/false};
  }
  Part part(int64_t step, int owner) const {  // of the piece of `owner`
    const auto o = static_cast<size_t>(owner);
    const int64_t first = std::min(step * area().slot_bytes(), counts_[o]);
    return {first, std::min(first + area().slot_bytes(), counts_[o]) - first};
  }

  void contribute(int64_t step) override {
    const Part p = part(step, area().rank());
    copy(slot(area().rank(), step), mine_.data() + p.begin, p.count);
  }
  void work(int64_t step) override {
    for (int hop = 1; hop < area().ranks(); ++hop) {
      const int from = (area().rank() + hop) % area().ranks();
      const Part p = part(step, from);
      const std::byte* source = area().direct() ? area().counters(from).source + p.begin : slot(from, step);
      copy(all_.data() + begins_[static_cast<size_t>(from)] + p.begin, source, p.count);
    }
  }

  std::span<const std::byte> mine_;
  std::span<std::byte> all_;
  std::vector<int64_t> counts_, begins_;
};

}  // namespace

template <typename T>
std::unique_ptr<Operation> shared_all_reduce(SharedArea& area, std::span<T> data, ReduceOp op) {
  return std::make_unique<SharedAllReduce<T>>(area, data, op);
}
template std::unique_ptr<Operation> shared_all_reduce<float>(SharedArea&, std::span<float>, ReduceOp);
template std::unique_ptr<Operation> shared_all_reduce<double>(SharedArea&, std::span<double>, ReduceOp);
template std::unique_ptr<Operation> shared_all_reduce<int64_t>(SharedArea&, std::span<int64_t>, ReduceOp);

std::unique_ptr<Operation> shared_reduce_scatter(SharedArea& area, std::span<const float> data, std::span<float> mine,
                                                 std::span<const int64_t> counts, ReduceOp op) {
  return std::make_unique<SharedReduceScatter>(area, data, mine, counts, op);
}

std::unique_ptr<Operation> shared_all_gather(SharedArea& area, std::span<const std::byte> mine,
                                             std::span<std::byte> all, std::span<const int64_t> counts) {
  return std::make_unique<SharedAllGather>(area, mine, all, counts);
}

}  // namespace farsight
