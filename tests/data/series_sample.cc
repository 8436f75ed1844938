// SPDX-License-Identifier: Apache-2.0
#include "tests/data/series_sample.h"

#include <cmath>
#include <cstdio>
#include <random>

#include "data/file.h"
#include "data/hdf5.h"
#include "data/probe.h"
#include "data/series_writer.h"
#include "data/sidecar.h"

namespace farsight {

namespace {

constexpr int64_t kHour = 3'600'000'000'000;

class TableMaker {
 public:
  TableMaker(uint64_t seed, const RandomTable& shape) : random_(seed), shape_(shape) {}

  SeriesTable run() {
    constexpr ChannelRole kRoles[] = {ChannelRole::target, ChannelRole::past, ChannelRole::known_future};
    const int64_t channels = shape_.channels > 0 ? shape_.channels : uniform(1, 20);
    for (int64_t c = 0; c < channels; ++c) {
      const auto role = c == 0 ? ChannelRole::target : kRoles[uniform(0, 2)];
      table_.channels.push_back({.name = fmt::format("c{}", c), .unit = c % 2 == 0 ? "" : "W/m\u00b2", .role = role});
    }
    table_.frequency = shape_.frequency;
    for (int64_t k = uniform(0, 2); k > 0; --k) table_.static_names.push_back(fmt::format("k{}", k));
    const char* ids[] = {"station/7", ".hidden", "100 %", "\u00fc"};
    const int64_t count = uniform(1, 4);
    for (int64_t s = 0; s < count; ++s) add_series(ids[s]);
    return std::move(table_);
  }

 private:
  int64_t uniform(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  void add_series(const char* id) {
    const auto index = static_cast<int64_t>(table_.series.size());
    const int64_t rows = uniform(60, 160);
    const size_t channels = table_.channels.size();
    Series series;
    series.id = id;
    int64_t time = uniform(-1000, 1000) * kHour;
    if (shape_.frequency.months > 0) time = 0;  // the first of a month
    std::normal_distribution<float> normal(3.0F, 2.0F);
    for (int64_t t = 0; t < rows; ++t) {
      series.time.push_back(time);
      time = shape_.frequency == Frequency{} ? time + uniform(1, kHour) : advance(shape_.frequency, time, 1, 1);
      for (size_t c = 0; c < channels; ++c) series.values.push_back(normal(random_));
    }
    if (shape_.masks && uniform(0, 2) > 0) {
      series.mask.assign(series.values.size(), 1);
      for (size_t i = 0; i < series.mask.size(); ++i) {
        if (uniform(0, 9) > 0) continue;
        series.mask[i] = 0;
        series.values[i] = std::nanf("");
      }
    }
    for (size_t k = 0; k < table_.static_names.size(); ++k) series.statics.push_back(normal(random_));
    table_.series.push_back(std::move(series));
    // Splits need not touch, and need not be there for every series.
    const int64_t a = uniform(30, 50), b = uniform(a, a + 10), c = uniform(b, rows), d = uniform(c, rows);
    table_.splits["train"].push_back({index, uniform(0, 5), a});
    table_.splits["valid"].push_back({index, b, c});
    if (index == 0 || uniform(0, 1) == 1) table_.splits["test"].push_back({index, d, rows});
  }

  std::mt19937_64 random_;
  RandomTable shape_;
  SeriesTable table_;
};

void check(herr_t result, const std::string& what) {
  if (result < 0) fail(ErrorKind::internal, "series sample: {}", what);
}

h5::Handle layout_of(SeriesStorage storage, const std::vector<hsize_t>& shape) {
  h5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  std::vector<hsize_t> chunk = shape;
  chunk[0] = std::min<hsize_t>(7, shape[0]);
  const bool half = storage == SeriesStorage::half_chunks;
  if (half && chunk.size() > 1) chunk[1] = (chunk[1] + 1) / 2;
  if (half || storage == SeriesStorage::chunks || storage == SeriesStorage::deflate) {
    H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
  }
  if (storage == SeriesStorage::deflate) {
    H5Pset_shuffle(creation.get());
    H5Pset_deflate(creation.get(), 1);
  }
  if (storage == SeriesStorage::compact) H5Pset_layout(creation.get(), H5D_COMPACT);
  return creation;
}

herr_t copy_attribute(hid_t from, const char* name, const H5A_info_t* /*info*/, void* to) {
  const h5::Handle old(H5Aopen(from, name, H5P_DEFAULT), H5Aclose);
  const h5::Handle type(H5Aget_type(old.get()), H5Tclose), space(H5Aget_space(old.get()), H5Sclose);
  if (H5Tget_class(type.get()) == H5T_STRING) return 0;  // units of time and the like
  int64_t value = 0;
  H5Aread(old.get(), type.get(), &value);
  const h5::Handle fresh(H5Acreate2(*static_cast<hid_t*>(to), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  return H5Awrite(fresh.get(), type.get(), &value);
}

void change_array(hid_t file, const std::string& path, SeriesStorage storage) {
  h5::Handle old(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose);
  const h5::Handle space(H5Dget_space(old.get()), H5Sclose);
  h5::Handle type(H5Dget_type(old.get()), H5Tclose);
  std::vector<hsize_t> shape(static_cast<size_t>(H5Sget_simple_extent_ndims(space.get())));
  H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr);
  std::vector<char> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space.get())) * 8);
  check(H5Dread(old.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
  h5::Handle stored(H5Tcopy(type.get()), H5Tclose);
  if (storage == SeriesStorage::float64) stored = h5::Handle(H5Tcopy(H5T_IEEE_F64LE), H5Tclose);
  if (storage == SeriesStorage::big_endian) H5Tset_order(stored.get(), H5T_ORDER_BE);
  const h5::Handle creation = layout_of(storage, shape);
  remove_link(file, path);
  h5::Handle fresh(H5Dcreate2(file, path.c_str(), stored.get(), space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
                   H5Dclose);
  check(H5Dwrite(fresh.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
  hid_t to = fresh.get();
  hsize_t at = 0;
  check(H5Aiterate2(old.get(), H5_INDEX_NAME, H5_ITER_INC, &at, copy_attribute, &to), path);
  // The hash is of the bytes, and these are others.
  if (storage == SeriesStorage::float64) check(H5Adelete(to, "content_xxh3"), path);
}

}  // namespace

SeriesTable random_table(uint64_t seed, const RandomTable& shape) { return TableMaker(seed, shape).run(); }

std::string write_table(const std::string& path, const SeriesTable& table, bool compress) {
  SeriesHeader header;
  header.tool = "test";
  header.licence = "none";
  header.reproducible = true;
  header.overwrite = true;
  header.compress = compress;
  write_series(path, header, table);
  return path;
}

void edit_file(const std::string& path, const std::function<void(hid_t file)>& edit) {
  const h5::Lock lock;
  std::remove(sidecar_path(path).c_str());
  h5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
  if (!file.valid()) fail(ErrorKind::internal, "series sample: cannot open {}", path);
  edit(file.get());
  if (!file.close()) fail(ErrorKind::internal, "series sample: cannot close {}", path);
}

void remove_link(hid_t file, const std::string& path) { check(H5Ldelete(file, path.c_str(), H5P_DEFAULT), path); }

void put_numbers(hid_t file, const std::string& path, hid_t type, const std::vector<hsize_t>& shape,
                 const std::vector<double>& values) {
  if (H5Lexists(file, path.c_str(), H5P_DEFAULT) > 0) remove_link(file, path);
  const h5::Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
  const h5::Handle dataset(H5Dcreate2(file, path.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                           H5Dclose);
  check(H5Dwrite(dataset.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path);
}

void change_storage(const std::string& path, SeriesStorage storage) {
  const SeriesDescriptor file = describe_series(path);
  edit_file(path, [&](hid_t opened) {
    for (const SeriesEntry& entry : file.series) {
      change_array(opened, entry.values.path, storage);
      if (storage == SeriesStorage::float64) continue;
      change_array(opened, entry.time.path, storage);
      if (entry.mask) change_array(opened, entry.mask->path, storage);
    }
  });
}

void sign_file(const std::string& path) {
  write_whole(sidecar_path(path), to_text(compute_sidecar(path, describe_series(path).uuid)));
}

}  // namespace farsight
