"""The words of the synthetic world: categories, brands and names, none of which gives a place away."""

CATEGORIES: dict[str, dict[str, float]] = {
    # category_1: {category_2: typical price}
    "Restaurant": {
        "Pizza": 16, "Sushi": 32, "Burgers": 14, "Thai": 19, "Tacos": 12, "Steakhouse": 58, "Noodles": 15, "Vegan": 18,
    },
    "Cafe": {"Coffee": 6, "Tea House": 7, "Bakery": 8, "Ice Cream": 7, "Breakfast": 13},
    "Bar": {"Cocktails": 15, "Brewery": 10, "Wine Bar": 18, "Karaoke": 22},
    "Shop": {
        "Groceries": 35, "Books": 20, "Shoes": 75, "Electronics": 180, "Flowers": 28, "Toys": 24, "Bicycles": 320,
    },
    "Beauty": {"Hair Salon": 45, "Nails": 38, "Spa": 95, "Barber": 26},
    "Sport": {"Gym": 40, "Yoga": 22, "Climbing": 21, "Swimming": 9, "Bowling": 18},
    "Service": {"Dry Cleaning": 17, "Car Wash": 15, "Pharmacy": 23, "Pet Care": 52, "Phone Repair": 70},
    "Culture": {"Cinema": 14, "Museum": 16, "Music Venue": 35, "Gallery": 10},
}  # fmt: skip

NATIONAL_CHAINS_PER_CATEGORY = 2
REGIONAL_CHAINS_PER_PROVINCE = 12

FIRST = [
    "Amber", "Ash", "Azure", "Birch", "Blue", "Bold", "Brass", "Bright", "Bronze", "Calm", "Cedar", "Clever",
    "Clover", "Copper", "Coral", "Crimson", "Crystal", "Daily", "Dapper", "Ember", "Fable", "First", "Friendly",
    "Gentle", "Gilded", "Golden", "Grand", "Green", "Happy", "Hazel", "Hidden", "Honest", "Humble", "Indigo", "Iron",
    "Ivory", "Jade", "Jolly", "Kind", "Lemon", "Lively", "Lucky", "Lunar", "Maple", "Marble", "Merry", "Mighty",
    "Modern", "Noble", "Olive", "Opal", "Orange", "Paper", "Pearl", "Plain", "Proud", "Quick", "Quiet", "Rapid",
    "Red", "Royal", "Ruby", "Rustic", "Saffron", "Scarlet", "Second", "Secret", "Silver", "Simple", "Smart", "Solid",
    "Spicy", "Spry", "Stellar", "Sunny", "Swift", "Tall", "Tidy", "Twin", "Urban", "Velvet", "Violet", "Vivid",
    "Warm", "White", "Wild", "Wise", "Young", "Zesty",
]  # fmt: skip

SECOND = [
    "Acorn", "Anchor", "Apple", "Arrow", "Badger", "Barrel", "Basket", "Beacon", "Bear", "Bee", "Bell", "Bird",
    "Bottle", "Brush", "Button", "Candle", "Cat", "Clock", "Cloud", "Compass", "Cricket", "Crow", "Crown", "Cup",
    "Dog", "Door", "Dove", "Dragon", "Drum", "Eagle", "Elk", "Falcon", "Feather", "Fern", "Fiddle", "Finch", "Fish",
    "Flame", "Fork", "Fox", "Frog", "Garden", "Gate", "Goose", "Hammer", "Hare", "Harp", "Hat", "Hawk", "Hen", "Heron",
    "Horse", "Kettle", "Key", "Kite", "Ladle", "Lamp", "Lantern", "Leaf", "Lily", "Lion", "Lotus", "Magpie", "Mill",
    "Mirror", "Moon", "Needle", "Nest", "Oak", "Otter", "Owl", "Pan", "Parrot", "Pebble", "Pen", "Penguin", "Pepper",
    "Pigeon", "Pine", "Plate", "Plum", "Quill", "Rabbit", "Raven", "Robin", "Rose", "Saddle", "Spoon", "Star",
    "Stone", "Swan", "Table", "Teapot", "Thistle", "Tiger", "Tree", "Tulip", "Turtle", "Umbrella", "Wagon", "Whale",
    "Wheel", "Willow", "Wolf", "Wren",
]  # fmt: skip
