// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/memory_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <stdexcept>

namespace farsight {

struct MemoryFileSystem::Node {
  bool directory = false;
  int64_t modified_ns = 0;
  std::string data, synced_data;
  std::map<std::string, NodePtr> entries, synced_entries;
};

MemoryFileSystem::MemoryFileSystem() : root_(std::make_shared<Node>()) { root_->directory = true; }
MemoryFileSystem::~MemoryFileSystem() = default;

MemoryFileSystem::NodePtr MemoryFileSystem::find(const std::string& path) const {
  NodePtr node = root_;
  size_t at = 0;
  while (node && at < path.size()) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) {
      const auto entry = node->entries.find(path.substr(at, end - at));
      node = entry == node->entries.end() ? nullptr : entry->second;
    }
    at = end + 1;
  }
  return node;
}

MemoryFileSystem::NodePtr MemoryFileSystem::parent_of(const std::string& path, std::string& name) const {
  const size_t slash = path.find_last_of('/');
  name = slash == std::string::npos ? path : path.substr(slash + 1);
  const NodePtr parent = find(slash == std::string::npos ? "" : path.substr(0, slash));
  return parent && parent->directory ? parent : nullptr;
}

namespace {

// xorshift: any sequence of coins will do.
bool flip(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state & 1) != 0;
}

}  // namespace

// A rename within one directory is one change of that directory: it survives or it does not.
void MemoryFileSystem::lose(const NodePtr& node, uint64_t* coin) {
  if (coin != nullptr && flip(*coin)) {
    node->synced_data = node->data;
    node->synced_entries = node->entries;
  }
  node->data = node->synced_data;
  node->entries = node->synced_entries;
  for (const auto& [name, child] : node->entries) lose(child, coin);
}

void MemoryFileSystem::lose_power() {
  const std::lock_guard lock(mutex_);
  open_.clear();
  lose(root_, nullptr);
}

void MemoryFileSystem::lose_power_partly(uint64_t seed) {
  const std::lock_guard lock(mutex_);
  open_.clear();
  uint64_t coin = seed * 0x9E3779B97F4A7C15ULL + 1;
  lose(root_, &coin);
}

std::string& MemoryFileSystem::content(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(path);
  if (!node || node->directory) throw std::runtime_error("no such file: " + path);
  return node->data;
}

std::vector<std::string> MemoryFileSystem::all_files() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> paths;
  const std::function<void(const NodePtr&, const std::string&)> walk = [&](const NodePtr& node,
                                                                           const std::string& path) {
    if (!node->directory) paths.push_back(path);
    for (const auto& [name, child] : node->entries) walk(child, path.empty() ? name : path + "/" + name);
  };
  walk(root_, "");
  return paths;
}

// Copies the visible state; the copy counts as synced.
MemoryFileSystem::NodePtr MemoryFileSystem::clone(const NodePtr& node) {
  auto copy = std::make_shared<Node>(*node);
  copy->synced_data = copy->data;
  for (auto& [name, child] : copy->entries) child = clone(child);
  copy->synced_entries = copy->entries;
  return copy;
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::copy() const {
  const std::lock_guard lock(mutex_);
  auto result = std::make_unique<MemoryFileSystem>();
  result->root_ = clone(root_);
  result->clock_ns_ = clock_ns_;
  return result;
}

void MemoryFileSystem::advance_clock(double seconds) {
  const std::lock_guard lock(mutex_);
  clock_ns_ += static_cast<int64_t>(seconds * 1e9);
}

int MemoryFileSystem::open_read(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(path);
  if (!node) return -ENOENT;
  open_[next_descriptor_] = node;
  return next_descriptor_++;
}

int MemoryFileSystem::create_exclusive(const std::string& path) {
  const std::lock_guard lock(mutex_);
  std::string name;
  const NodePtr parent = parent_of(path, name);
  if (!parent) return -ENOENT;
  if (parent->entries.count(name) != 0) return -EEXIST;
  auto node = std::make_shared<Node>();
  node->modified_ns = ++clock_ns_;
  parent->entries[name] = node;
  open_[next_descriptor_] = node;
  return next_descriptor_++;
}

int64_t MemoryFileSystem::write(int descriptor, const void* data, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(descriptor);
  if (found == open_.end()) return -EBADF;
  found->second->data.append(static_cast<const char*>(data), bytes);
  found->second->modified_ns = ++clock_ns_;
  return static_cast<int64_t>(bytes);
}

int64_t MemoryFileSystem::pread(int descriptor, void* data, size_t bytes, int64_t offset) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(descriptor);
  if (found == open_.end()) return -EBADF;
  if (found->second->directory) return -EISDIR;
  const std::string& content = found->second->data;
  const auto begin = static_cast<size_t>(offset);
  if (begin >= content.size()) return 0;
  const size_t count = std::min(bytes, content.size() - begin);
  std::memcpy(data, content.data() + begin, count);
  return static_cast<int64_t>(count);
}

int MemoryFileSystem::sync_data(int descriptor) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(descriptor);
  if (found == open_.end()) return -EBADF;
  found->second->synced_data = found->second->data;
  return 0;
}

int MemoryFileSystem::close(int descriptor) {
  const std::lock_guard lock(mutex_);
  return open_.erase(descriptor) == 1 ? 0 : -EBADF;
}

int MemoryFileSystem::status(const std::string& path, FileStatus& out) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(path);
  if (!node) return -ENOENT;
  out = {node->directory, static_cast<int64_t>(node->data.size()), node->modified_ns};
  return 0;
}

int MemoryFileSystem::list(const std::string& directory, std::vector<std::string>& names) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(directory);
  if (!node) return -ENOENT;
  if (!node->directory) return -ENOTDIR;
  names.clear();
  for (const auto& [name, child] : node->entries) names.push_back(name);
  return 0;
}

int MemoryFileSystem::make_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  std::string name;
  const NodePtr parent = parent_of(path, name);
  if (!parent) return -ENOENT;
  if (parent->entries.count(name) != 0) return -EEXIST;
  auto node = std::make_shared<Node>();
  node->directory = true;
  parent->entries[name] = node;
  return 0;
}

int MemoryFileSystem::sync_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(path);
  if (!node || !node->directory) return -ENOENT;
  node->synced_entries = node->entries;
  return 0;
}

int MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  std::string from_name, to_name;
  const NodePtr source = parent_of(from, from_name), target = parent_of(to, to_name);
  if (!source || !target || source->entries.count(from_name) == 0) return -ENOENT;
  const auto existing = target->entries.find(to_name);
  if (existing != target->entries.end() && existing->second->directory && !existing->second->entries.empty()) {
    return -ENOTEMPTY;
  }
  const NodePtr node = source->entries[from_name];
  source->entries.erase(from_name);
  target->entries[to_name] = node;
  return 0;
}

int MemoryFileSystem::remove_file(const std::string& path) {
  const std::lock_guard lock(mutex_);
  std::string name;
  const NodePtr parent = parent_of(path, name);
  if (!parent || parent->entries.count(name) == 0) return -ENOENT;
  if (parent->entries[name]->directory) return -EISDIR;
  parent->entries.erase(name);
  return 0;
}

int MemoryFileSystem::remove_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  std::string name;
  const NodePtr parent = parent_of(path, name);
  if (!parent || parent->entries.count(name) == 0) return -ENOENT;
  const NodePtr node = parent->entries[name];
  if (!node->directory) return -ENOTDIR;
  if (!node->entries.empty()) return -ENOTEMPTY;
  parent->entries.erase(name);
  return 0;
}

int MemoryFileSystem::touch(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const NodePtr node = find(path);
  if (!node) return -ENOENT;
  node->modified_ns = ++clock_ns_;
  return 0;
}

int64_t MemoryFileSystem::free_bytes(const std::string&) { return free_bytes_; }

}  // namespace farsight
