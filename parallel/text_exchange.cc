// SPDX-License-Identifier: Apache-2.0
#include "parallel/text_exchange.h"

#include <array>
#include <numeric>
#include <utility>

namespace farsight {
namespace {

constexpr int kGatherTag = 7301;

std::span<std::byte> writable(std::string& text) { return std::as_writable_bytes(std::span(text)); }
std::span<const std::byte> readable(const std::string& text) { return std::as_bytes(std::span(text)); }

std::vector<int64_t> gather_lengths(Communicator& world, const std::string& mine) {
  std::vector<int64_t> lengths(static_cast<size_t>(world.size()), 0);
  lengths[static_cast<size_t>(world.rank())] = static_cast<int64_t>(mine.size());
  world.all_reduce(std::span(lengths), ReduceOp::sum);
  return lengths;
}

}  // namespace

std::string broadcast_text(Communicator& world, std::string text, int root) {
  std::array<int64_t, 1> length{world.rank() == root ? static_cast<int64_t>(text.size()) : 0};
  world.all_reduce(std::span<int64_t>(length), ReduceOp::max);
  text.resize(static_cast<size_t>(length[0]));
  if (length[0] > 0) world.broadcast(writable(text), root);
  return text;
}

std::vector<std::string> gather_texts(Communicator& world, const std::string& mine) {
  const std::vector<int64_t> lengths = gather_lengths(world, mine);
  std::string all(static_cast<size_t>(std::accumulate(lengths.begin(), lengths.end(), int64_t{0})), '\0');
  if (!all.empty()) world.all_gather(readable(mine), writable(all), lengths);
  std::vector<std::string> texts;
  size_t at = 0;
  for (const int64_t length : lengths) {
    texts.push_back(all.substr(at, static_cast<size_t>(length)));
    at += static_cast<size_t>(length);
  }
  return texts;
}

std::vector<std::string> gather_texts_at_root(Communicator& world, const std::string& mine) {
  const std::vector<int64_t> lengths = gather_lengths(world, mine);
  if (world.rank() != 0) {
    world.send(readable(mine), 0, kGatherTag)->wait();
    return {};
  }
  std::vector<std::string> texts{mine};
  for (int rank = 1; rank < world.size(); ++rank) {
    std::string text(static_cast<size_t>(lengths[static_cast<size_t>(rank)]), '\0');
    world.receive(writable(text), rank, kGatherTag)->wait();
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace farsight
