// Hash sets of C++ behind the signature of hp_book_find, for plot_book.py to compare with:
// std::unordered_set, tsl::robin_set (robin-map-dev) and absl::flat_hash_set (libabsl-dev). They say
// whether a script is there; whose it is they do not keep.
#include <absl/container/flat_hash_set.h>
#include <tsl/robin_set.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <string_view>
#include <unordered_set>

namespace {

struct Script {
    std::array<std::uint8_t, 25> bytes{};
    std::uint8_t len = 0;
    Script(const std::uint8_t *script, std::size_t n) : len(static_cast<std::uint8_t>(n))
    {
        std::memcpy(bytes.data(), script, n < bytes.size() ? n : bytes.size());
    }
    std::string_view view() const
    {
        return {reinterpret_cast<const char *>(bytes.data()), len};
    }
    bool operator==(const Script &other) const
    {
        return view() == other.view();
    }
};

struct StdHash {
    std::size_t operator()(const Script &script) const
    {
        return std::hash<std::string_view>{}(script.view());
    }
};

struct AbslHash {
    std::size_t operator()(const Script &script) const
    {
        return absl::Hash<std::string_view>{}(script.view());
    }
};

template <class Set> struct Table {
    Set set;
    static std::uint32_t find(const void *table, const std::uint8_t *script, std::size_t len)
    {
        return static_cast<const Table *>(table)->set.count(Script(script, len)) ? 0 : 0xffff;
    }
    static int add(void *table, const std::uint8_t *script, std::size_t len, std::uint32_t)
    {
        static_cast<Table *>(table)->set.insert(Script(script, len));
        return 0;
    }
};

using Std = Table<std::unordered_set<Script, StdHash>>;
using Robin = Table<tsl::robin_set<Script, StdHash>>;
using Absl = Table<absl::flat_hash_set<Script, AbslHash>>;

} // namespace

extern "C" {
void *set_new_std() { return new Std; }
void *set_new_robin() { return new Robin; }
void *set_new_absl() { return new Absl; }
void set_free_std(void *table) { delete static_cast<Std *>(table); }
void set_free_robin(void *table) { delete static_cast<Robin *>(table); }
void set_free_absl(void *table) { delete static_cast<Absl *>(table); }
std::uint32_t set_find_std(const void *t, const std::uint8_t *s, std::size_t n) { return Std::find(t, s, n); }
std::uint32_t set_find_robin(const void *t, const std::uint8_t *s, std::size_t n) { return Robin::find(t, s, n); }
std::uint32_t set_find_absl(const void *t, const std::uint8_t *s, std::size_t n) { return Absl::find(t, s, n); }
int set_add_std(void *t, const std::uint8_t *s, std::size_t n, std::uint32_t o) { return Std::add(t, s, n, o); }
int set_add_robin(void *t, const std::uint8_t *s, std::size_t n, std::uint32_t o) { return Robin::add(t, s, n, o); }
int set_add_absl(void *t, const std::uint8_t *s, std::size_t n, std::uint32_t o) { return Absl::add(t, s, n, o); }
std::uint64_t set_allocated()
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
}
